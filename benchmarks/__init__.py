"""Speed beside plain implementations of what published code does; `make bench` prints the tables."""

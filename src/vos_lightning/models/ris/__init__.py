"""RIS (Romera-Paredes and Torr 2016) on images."""

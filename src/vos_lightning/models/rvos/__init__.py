"""RVOS (Ventura et al. 2019) and STESA-GRU (Valderrama and Rueda)."""

"""S2S (Xu et al. 2018) and its variant with a video representation (Jain)."""

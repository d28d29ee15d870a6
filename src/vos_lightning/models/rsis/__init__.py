"""RSIS: Recurrent Neural Networks for Semantic Instance Segmentation (Salvador et al. 2017)."""

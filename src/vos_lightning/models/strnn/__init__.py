"""The spatio-temporal RNN with online adaptation to scribbles (Lin et al. 2019)."""

"""Priors: what records look like in general, learned from public ones, as a space to search in."""

from seepage.models.priors.base import Decoder as Decoder
from seepage.models.priors.base import Prior as Prior
from seepage.models.priors.pca import PCAPrior as PCAPrior
from seepage.models.priors.shelf import Shelf as Shelf
from seepage.models.priors.shelf import prior_for as prior_for

"""Priors: what records look like in general, learned from public ones, as a space to search in."""

from seepage.models.priors.artefact import Card as Card
from seepage.models.priors.artefact import load as load
from seepage.models.priors.artefact import read_card as read_card
from seepage.models.priors.artefact import save as save
from seepage.models.priors.base import Decoder as Decoder
from seepage.models.priors.base import Prior as Prior
from seepage.models.priors.base import Tunable as Tunable
from seepage.models.priors.overlap import Overlap as Overlap
from seepage.models.priors.overlap import trained_on_private as trained_on_private
from seepage.models.priors.own import OwnPrior as OwnPrior
from seepage.models.priors.own import own_prior as own_prior
from seepage.models.priors.pca import PCAPrior as PCAPrior
from seepage.models.priors.shelf import Shelf as Shelf
from seepage.models.priors.shelf import prior_for as prior_for
from seepage.models.priors.shelf import trained as trained

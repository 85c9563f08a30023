"""Names to code, without importing the code: the catalogue of everything that can be named.

Other packages add entries through the entry points `seepage.attacks` and `seepage.defenses`.
"""

from collections.abc import Iterator, Mapping
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

from seepage.core.attack import Attack
from seepage.core.defense import Defense
from seepage.core.errors import ConfigError, did_you_mean


def load(path: str) -> Any:
    """The object at "package.module:name".

    Raises:
        ConfigError: when the module or the name does not exist.
    """
    module, _, name = path.partition(":")
    if not module or not name:
        raise ConfigError(f"an import path looks like 'package.module:name', got '{path}'")
    try:
        found: Any = import_module(module)
    except ModuleNotFoundError as error:
        if error.name and (module == error.name or module.startswith(error.name + ".")):
            raise ConfigError(
                f"no module named '{error.name}' for '{path}'; is its folder on PYTHONPATH, or the package installed?"
            ) from error
        raise
    for part in name.split("."):
        if not hasattr(found, part):
            raise ConfigError(
                f"'{module}' has no '{part}'; {did_you_mean(part, [n for n in dir(found) if n[0] != '_'])}"
            )
        found = getattr(found, part)
    return found


class Catalogue(Mapping[str, str]):
    """Known names of one kind of thing, each with its import path."""

    def __init__(self, kind: str, entries: dict[str, str], group: str):
        self.kind = kind
        self._entries = dict(entries)
        for point in entry_points(group=group):
            self._entries.setdefault(point.name, point.value)

    def __getitem__(self, name: str) -> str:
        if name not in self._entries:
            raise ConfigError(f"unknown {self.kind} '{name}': {did_you_mean(name, self._entries)}")
        return self._entries[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def load(self, name: str) -> Any:
        """The class called `name`.

        Raises:
            ConfigError: for an unknown name, with a "did you mean".
        """
        return load(self[name])


ATTACKS = Catalogue(
    "attack",
    {
        "mi-face": "seepage.attacks.inversion.fredrikson2015:MIFace",
        "latent": "seepage.attacks.inversion.latent:LatentGradient",
        "gmi": "seepage.attacks.inversion.zhang2020:GMI",
        "plug-and-play": "seepage.attacks.inversion.struppek2022:PlugAndPlay",
        "if-gmi": "seepage.attacks.inversion.qiu2024:IntermediateFeatures",
        "lomma": "seepage.attacks.inversion.nguyen2023_lomma:LOMMA",
        "diff-mi": "seepage.attacks.inversion.li2024:DiffMI",
        "nes": "seepage.attacks.inversion.nes:ScoreNES",
        "mirror": "seepage.attacks.inversion.an2022:Mirror",
        "cma-es": "seepage.attacks.inversion.cmaes:CMAES",
        "rlb-mi": "seepage.attacks.inversion.han2023:RLBMI",
        "composite": "seepage.attacks.inversion.mansourifar2020:Composite",
        "brep-mi": "seepage.attacks.inversion.kahla2022:BoundaryRepulsion",
        "lokt": "seepage.attacks.inversion.nguyen2023_lokt:KnowledgeTransfer",
        "ked-mi": "seepage.attacks.inversion.chen2021:KEDMI",
        "plg-mi": "seepage.attacks.inversion.yuan2023:PLGMI",
        "inversion-network": "seepage.attacks.inversion.yang2019:InversionNetwork",
        "inverse-surrogate": "seepage.attacks.inversion.yang2019:InverseSurrogate",
        "embedding-inversion": "seepage.attacks.inversion.embeddings:EmbeddingInversion",
        "embedding-search": "seepage.attacks.inversion.embeddings:EmbeddingSearch",
        "sentence-nearest": "seepage.attacks.inversion.sentence_nearest:SentenceNearest",
        "sentence-words": "seepage.attacks.inversion.song2020:SentenceWords",
        "sentence-search": "seepage.attacks.inversion.sentence_search:SentenceSearch",
        "dager": "seepage.attacks.gradient.petrov2024:Dager",
        "embedding-rows": "seepage.attacks.gradient.embedding_rows:EmbeddingRows",
        "tag": "seepage.attacks.gradient.deng2021:Tag",
        "lamp": "seepage.attacks.gradient.balunovic2022:Lamp",
        "linear-layer": "seepage.attacks.gradient.phong2017:LinearLayer",
        "imprint": "seepage.attacks.gradient.fowl2022:RobbingTheFed",
        "trap-weights": "seepage.attacks.gradient.boenisch2023:TrapWeights",
        "fishing": "seepage.attacks.gradient.wen2022:Fishing",
        "idlg": "seepage.attacks.gradient.zhao2020:IDLG",
        "grad-inversion-labels": "seepage.attacks.gradient.yin2021_labels:GradInversionLabels",
        "llg": "seepage.attacks.gradient.wainakh2022:LLG",
        "ilrg": "seepage.attacks.gradient.ma2023:ILRG",
        "learned-counts": "seepage.attacks.gradient.label_learning:LearnedCounts",
        "untrained-counts": "seepage.attacks.gradient.label_counts:UntrainedCounts",
        "cocktail-party": "seepage.attacks.gradient.kariyappa2023:CocktailParty",
        "r-gap": "seepage.attacks.gradient.zhu2021:RGap",
        "spear": "seepage.attacks.gradient.dimitrov2024:Spear",
        "dlg": "seepage.attacks.gradient.zhu2019:DLG",
        "inverting-gradients": "seepage.attacks.gradient.geiping2020:InvertingGradients",
        "grad-inversion": "seepage.attacks.gradient.yin2021:GradInversion",
        "fedavg-matching": "seepage.attacks.gradient.dimitrov2022:FedAvgMatching",
        "latent-matching": "seepage.attacks.gradient.li2022:LatentMatching",
        "gias": "seepage.attacks.gradient.jeon2021:GIAS",
        "gifd": "seepage.attacks.gradient.fang2023:GIFD",
        "ggl": "seepage.attacks.gradient.li2022_ggl:GGL",
        "fedleak": "seepage.attacks.gradient.fan2025:FedLeak",
        "threshold": "seepage.attacks.membership.yeom2018:Threshold",
        "references": "seepage.attacks.membership.by_number:ByNumber",
        "lira": "seepage.attacks.membership.carlini2022:LiRA",
        "student-t": "seepage.attacks.membership.brannvall2026:StudentT",
        "rmia": "seepage.attacks.membership.zarifzadeh2024:RMIA",
        "base": "seepage.attacks.membership.lassila2025:BASE",
        "shadow-classifier": "seepage.attacks.membership.shokri2017:ShadowClassifier",
        "gradient-canaries": "seepage.attacks.membership.nasr2023:GradientCanaryWeights",
        "property-answers": "seepage.attacks.membership.zhang2021:PropertyAnswers",
        "property-confidence": "seepage.attacks.membership.suri2022:PropertyConfidence",
        "property-weights": "seepage.attacks.membership.ganju2018:PropertyWeights",
        "class-threshold": "seepage.attacks.membership.song2021:ClassThreshold",
        "quantile-regression": "seepage.attacks.membership.bertran2023:QuantileRegression",
        "gradient-norm": "seepage.attacks.membership.nasr2019:GradientNorm",
        "boundary-distance": "seepage.attacks.membership.choquette2021_boundary:BoundaryDistance",
        "augmentation": "seepage.attacks.membership.choquette2021:Augmentation",
    },
    "seepage.attacks",
)

DEFENSES = Catalogue(
    "defense",
    {
        "round": "seepage.defenses.outputs.rounding:Round",
        "labels-only": "seepage.defenses.outputs.labels:LabelsOnly",
        "top-k": "seepage.defenses.outputs.topk:TopK",
        "check-received": "seepage.defenses.updates.received:CheckReceived",
        "clip": "seepage.defenses.updates.clip:Clip",
        "gaussian-noise": "seepage.defenses.updates.gaussian:GaussianNoise",
        "laplace-noise": "seepage.defenses.updates.laplace:LaplaceNoise",
        "top-k-update": "seepage.defenses.updates.topk:TopKUpdate",
        "quantise": "seepage.defenses.updates.quantise:Quantise",
        "sign": "seepage.defenses.updates.sign:Sign",
        "dp-sgd": "seepage.defenses.training.dp_sgd:DPSGD",
        "soteria": "seepage.defenses.training.soteria:Soteria",
        "precode": "seepage.defenses.training.precode:Precode",
        "secure-aggregation": "seepage.defenses.updates.secure_aggregation:SecureAggregation",
        "encrypted-aggregation": "seepage.defenses.updates.encrypted_aggregation:EncryptedAggregation",
    },
    "seepage.defenses",
)


def attack_class(name: str) -> type[Attack]:
    """The attack called `name`."""
    found = ATTACKS.load(name)
    if not (isinstance(found, type) and issubclass(found, Attack)):
        raise ConfigError(f"'{ATTACKS[name]}' is not an attack")
    return found


def defense_class(name: str) -> type[Defense]:
    """The defense called `name`."""
    found = DEFENSES.load(name)
    if not (isinstance(found, type) and issubclass(found, Defense)):
        raise ConfigError(f"'{DEFENSES[name]}' is not a defense")
    return found

"""breaching on gradients: reads a job folder, writes what it made and its CPU seconds.

Run by gradient_peer.py in a process of its own, so that the peer and its dependencies stay out of ours.
"""

import copy
import json
import logging
import resource
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gradient_nets import NETS
from torch import nn

# torchvision's wheel is built for another torch than the processor-only one: its operators do not load. breaching
# imports it and calls none of them, so that their names suffice.
OPERATORS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "roi_align(Tensor input, Tensor rois, float spatial_scale, SymInt pooled_height, SymInt pooled_width, "
    "int sampling_ratio, bool aligned) -> Tensor",
    "_roi_align_backward(Tensor grad, Tensor rois, float spatial_scale, SymInt pooled_height, SymInt pooled_width, "
    "SymInt batch_size, SymInt channels, SymInt height, SymInt width, int sampling_ratio, bool aligned) -> Tensor",
    "roi_pool(Tensor input, Tensor rois, float spatial_scale, SymInt pooled_height, SymInt pooled_width) "
    "-> (Tensor, Tensor)",
    "_roi_pool_backward(Tensor grad, Tensor rois, Tensor argmax, float spatial_scale, SymInt pooled_height, "
    "SymInt pooled_width, SymInt batch_size, SymInt channels, SymInt height, SymInt width) -> Tensor",
    "ps_roi_align(Tensor input, Tensor rois, float spatial_scale, SymInt pooled_height, SymInt pooled_width, "
    "int sampling_ratio) -> (Tensor, Tensor)",
    "_ps_roi_align_backward(Tensor grad, Tensor rois, Tensor channel_mapping, float spatial_scale, "
    "SymInt pooled_height, SymInt pooled_width, int sampling_ratio, SymInt batch_size, SymInt channels, "
    "SymInt height, SymInt width) -> Tensor",
    "ps_roi_pool(Tensor input, Tensor rois, float spatial_scale, SymInt pooled_height, SymInt pooled_width) "
    "-> (Tensor, Tensor)",
    "_ps_roi_pool_backward(Tensor grad, Tensor rois, Tensor channel_mapping, float spatial_scale, "
    "SymInt pooled_height, SymInt pooled_width, SymInt batch_size, SymInt channels, SymInt height, SymInt width) "
    "-> Tensor",
    "deform_conv2d(Tensor input, Tensor weight, Tensor offset, Tensor mask, Tensor bias, SymInt stride_h, "
    "SymInt stride_w, SymInt pad_h, SymInt pad_w, SymInt dilation_h, SymInt dilation_w, SymInt groups, "
    "SymInt offset_groups, bool use_mask) -> Tensor",
    "_deform_conv2d_backward(Tensor grad, Tensor input, Tensor weight, Tensor offset, Tensor mask, Tensor bias, "
    "SymInt stride_h, SymInt stride_w, SymInt pad_h, SymInt pad_w, SymInt dilation_h, SymInt dilation_w, "
    "SymInt groups, SymInt offset_groups, bool use_mask) -> (Tensor, Tensor, Tensor, Tensor, Tensor)",
)


# What is known of batch normalisation: that it went by the statistics sent out ("eval" mode); or that it went by the
# batch's own ("train" mode), which the client sends along or keeps.
STATISTICS = ("public", "shared", "unknown")


class Told(dict[str, Any]):
    """What breaching reads both as a dictionary and by attribute."""

    def __getattr__(self, name: str) -> Any:
        if name not in self:
            raise AttributeError(name)
        return self[name]


def opened() -> Any:
    """breaching, imported on a torch whose torchvision has no operators."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    logging.disable(logging.INFO)
    # Held for as long as the process lives: the names go with it.
    opened.library = torch.library.Library("torchvision", "DEF")  # type: ignore[attr-defined]
    for schema in OPERATORS:
        opened.library.define(schema)  # type: ignore[attr-defined]
    import breaching

    return breaching


def seconds() -> float:
    """CPU seconds of this process, in user and system mode."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def gradients(net: nn.Module, x: torch.Tensor, y: torch.Tensor) -> list[torch.Tensor]:
    """Of the mean loss over the records, by parameter, in the mode that the network is in."""
    loss = nn.functional.cross_entropy(net(x), y)
    return [g.detach() for g in torch.autograd.grad(loss, list(net.parameters()))]


def buffers_of(net: nn.Module, x: torch.Tensor) -> list[torch.Tensor]:
    """What a client of breaching shares after a batch in "train" mode: the batch's own statistics."""
    own = copy.deepcopy(net).train()
    for layer in own.modules():
        if hasattr(layer, "momentum"):
            layer.momentum = None
    with torch.no_grad():
        own(x)
    return [b.detach().clone() for b in own.buffers()]


def messages(
    net: nn.Module,
    found: list[torch.Tensor],
    shape: tuple[int, ...],
    batch: int,
    labels: torch.Tensor | None,
    classes: int,
    scale: tuple[list[float], list[float]] = ([0.0] * 3, [1.0] * 3),
    shared: list[torch.Tensor] | None = None,
    public: bool = True,
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """What server and client send, as breaching reads it: the payloads and the shared data."""
    shown = Told(shape=shape, mean=scale[0], std=scale[1], classes=classes, modality="vision", task="classification")
    payload = {
        "parameters": [w.detach() for w in net.parameters()],
        "buffers": [b.detach() for b in net.buffers()] if public else None,
        "metadata": shown,
    }
    told = Told(num_data_points=batch, labels=labels, local_hyperparams=None, data_key="inputs")
    return [payload], [{"gradients": found, "buffers": shared, "metadata": told}]


def main(job: Path) -> None:
    breaching = opened()
    setting = json.loads((job / "setting.json").read_text())
    given = np.load(job / "given.npz")
    net = NETS[setting["net"]](setting["classes"])
    with torch.no_grad():
        for own, weight in zip(net.parameters(), np.load(job / "weights.npz").values(), strict=True):
            own.copy_(torch.from_numpy(weight))
    setup = {"dtype": torch.float32, "device": torch.device("cpu")}
    config = breaching.get_attack_config(setting["config"], overrides=setting["overrides"])
    statistics = setting["statistics"]
    made, spent, labels = [], [], []
    # One client after another: (k, b, ...) records of classes (k, b).
    for x, y in zip(torch.from_numpy(given["x"]), torch.from_numpy(given["y"]), strict=True):
        x = x.contiguous()
        client = copy.deepcopy(net).train(statistics != "public")
        found = gradients(client, x, y)
        payloads, shared = messages(
            net,
            found,
            tuple(x.shape[1:]),
            len(x),
            y if setting["labels"] else None,
            setting["classes"],
            (setting["mean"], setting["std"]),
            buffers_of(net, x) if statistics == "shared" else None,
            statistics == "public",
        )
        torch.manual_seed(0)
        begun = seconds()
        attacker = breaching.attacks.prepare_attack(net, nn.CrossEntropyLoss(), config, setup)
        # Without secrets its own README's call raises: an empty dictionary is wanted.
        ended, _ = attacker.reconstruct(payloads, shared, {})
        spent.append(seconds() - begun)
        made.append(ended["data"].detach().float().numpy())
        labels.append(ended["labels"].flatten().numpy())
    np.savez(job / "made.npz", x=np.stack(made), seconds=np.array(spent), labels=np.stack(labels))


if __name__ == "__main__":
    main(Path(sys.argv[1]))

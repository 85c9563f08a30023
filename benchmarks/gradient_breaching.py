"""breaching on single gradients: reads a job folder, writes what it made and its CPU seconds.

Run by gradient_peer.py in a process of its own, so that the peer and its dependencies stay out of ours.
"""

import json
import logging
import resource
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
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


class Told(dict[str, Any]):
    """What breaching reads both as a dictionary and by attribute."""

    def __getattr__(self, name: str) -> Any:
        if name not in self:
            raise AttributeError(name)
        return self[name]


def lenet(classes: int) -> nn.Module:
    """The LeNet of Zhu et al. for pictures of 3 x 32 x 32."""
    sizes = ((3, 2), (12, 2), (12, 1))
    body = [m for before, step in sizes for m in (nn.Conv2d(before, 12, 5, step, 2), nn.Sigmoid())]
    return nn.Sequential(nn.Sequential(*body, nn.Flatten()), nn.Linear(768, classes)).eval()


def seconds() -> float:
    """CPU seconds of this process, in user and system mode."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def main(job: Path) -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    logging.disable(logging.INFO)
    library = torch.library.Library("torchvision", "DEF")
    for schema in OPERATORS:
        library.define(schema)
    import breaching

    setting = json.loads((job / "setting.json").read_text())
    given = np.load(job / "given.npz")
    net = lenet(setting["classes"])
    with torch.no_grad():
        for own, weight in zip(net.parameters(), np.load(job / "weights.npz").values(), strict=True):
            own.copy_(torch.from_numpy(weight))
    loss = nn.CrossEntropyLoss()
    setup = {"dtype": torch.float32, "device": torch.device("cpu")}
    config = breaching.get_attack_config(setting["config"], overrides=setting["overrides"])
    made, spent, labels, without = [], [], [], ""
    for k in range(len(given["x"])):
        x = torch.from_numpy(given["x"][k : k + 1]).contiguous()
        y = torch.from_numpy(given["y"][k : k + 1])
        gradients = [g.detach() for g in torch.autograd.grad(loss(net(x), y), list(net.parameters()))]
        shown = Told(
            shape=tuple(x.shape[1:]),
            mean=setting["mean"],
            std=setting["std"],
            classes=setting["classes"],
            modality="vision",
            task="classification",
        )
        payload = {
            "parameters": [w.detach() for w in net.parameters()],
            "buffers": [b.detach() for b in net.buffers()],
            "metadata": shown,
        }
        told = Told(
            num_data_points=1, labels=y if setting["labels"] else None, local_hyperparams=None, data_key="inputs"
        )
        shared = {"gradients": gradients, "buffers": None, "metadata": told}
        torch.manual_seed(0)
        begun = seconds()
        attacker = breaching.attacks.prepare_attack(net, loss, config, setup)
        # Without secrets its own README's call raises: an empty dictionary is wanted.
        found, _ = attacker.reconstruct([payload], [shared], {})
        spent.append(seconds() - begun)
        made.append(found["data"].detach().float().numpy()[0])
        labels.append(int(found["labels"].flatten()[0]))
        if setting.get("defects"):
            without = refused(lambda: attacker.reconstruct([payload], [shared]))  # noqa: B023 called at once
    np.savez(job / "made.npz", x=np.stack(made), seconds=np.array(spent), labels=np.array(labels), without=without)


def refused(call: Callable[[], Any]) -> str:
    """What a call raises, or nothing."""
    try:
        call()
    except Exception as error:  # noqa: BLE001 whatever it is, it is what is asked for
        return f"{type(error).__name__}: {error}"
    return ""


if __name__ == "__main__":
    main(Path(sys.argv[1]))

"""A client who trains a language model on its messages, in plain transformers and torch: what its server then holds.

Run:    python examples/text_client.py             (needs the extra [lm]; nothing is downloaded)
Audit:  seepage audit examples/captured-texts.toml

Writes the model, and the weights before and after a round of training, into runs/text-client.
"""

import csv
import sys
from pathlib import Path

import torch
from safetensors.torch import save_model

from seepage.models.text_nets import text_net

HERE = Path(__file__).parent
MESSAGES = (
    "My left knee has been swollen since I slipped on the stairs",
    "I was charged twice for the train ticket to Lyon",
    "The rash on my arm came back after two weeks of cream",
    "Please cancel my card because my wallet was stolen",
)
RATE, EPOCHS = 0.05, 2


def main(folder: Path) -> None:
    """Write the model, and a round of one client."""
    folder.mkdir(parents=True, exist_ok=True)
    with (HERE / "texts" / "heldout.csv").open(encoding="utf-8", newline="") as file:
        others = [row["text"] for row in csv.DictReader(file)]
    public = (HERE / "texts" / "public.txt").read_text("utf-8").splitlines()
    # The federation's model. Its vocabulary was agreed on: here it is made of all these texts.
    made = text_net(
        "tiny-gpt", sorted([*public, *others, *MESSAGES]), 0, 7, "causal-lm", width=128, layers=2, length=32
    )
    model, tokenizer = made.module, made.tokenizer
    model.save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    save_model(model, str(folder / "before.safetensors"))

    batch = tokenizer(list(MESSAGES), return_tensors="pt", padding=True)
    labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
    optimiser = torch.optim.SGD(model.parameters(), lr=RATE)
    for _ in range(EPOCHS):
        optimiser.zero_grad()
        model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], labels=labels).loss.backward()
        optimiser.step()
    save_model(model, str(folder / "after.safetensors"))
    (folder / "messages.txt").write_text("\n".join(MESSAGES), "utf-8")
    (folder / "others.txt").write_text("\n".join(others), "utf-8")
    print(f"a round of one client lies in {folder}: seepage audit examples/captured-texts.toml")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE.parent / "runs" / "text-client")

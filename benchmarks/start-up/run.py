"""How long `seepage --help` takes, and what `import seepage` adds to a bare interpreter. Medians of 9."""

import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

RUNS = 9
COMMANDS = {
    "bare": [sys.executable, "-c", "pass"],
    "import": [sys.executable, "-c", "import seepage"],
    "help": [str(Path(sys.executable).with_name("seepage")), "--help"],
}


def main() -> None:
    spent: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(RUNS + 1):
        for name, command in COMMANDS.items():
            begun = time.perf_counter()
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            spent[name].append(time.perf_counter() - begun)
    # The first round fills the file cache.
    median = {name: statistics.median(times[1:]) for name, times in spent.items()}
    loaded = subprocess.run(
        [sys.executable, "-c", "import sys, seepage; print('torch' in sys.modules, 'numpy' in sys.modules)"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.split()
    for name, seconds in median.items():
        print(f"{name:<8} {seconds:.3f} s")
    print(
        json.dumps(
            {
                "help_seconds": round(median["help"], 3),
                "import_seconds": round(max(median["import"] - median["bare"], 0.0), 4),
                "bare_interpreter_seconds": round(median["bare"], 3),
                "import_loads_torch": loaded[0] == "True",
                "import_loads_numpy": loaded[1] == "True",
            }
        )
    )


if __name__ == "__main__":
    main()

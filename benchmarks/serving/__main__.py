"""The server under load, under attack, live and in a page, each on an idle machine.

python -m benchmarks.serving load SET/manifest.jsonl
python -m benchmarks.serving hostile SET/manifest.jsonl
python -m benchmarks.serving live SET/manifest.jsonl --streams 4
python -m benchmarks.serving edit samples/ast_vm-forward.flac
python -m benchmarks.serving settings TRAINING/manifest.jsonl --config.step 0.2
"""

import tyro

from benchmarks.serving.edit import edit
from benchmarks.serving.hostile import hostile
from benchmarks.serving.live import live
from benchmarks.serving.load import load
from benchmarks.serving.settings import settings

if __name__ == "__main__":
    tyro.extras.subcommand_cli_from_dict(
        {"load": load, "hostile": hostile, "live": live, "edit": edit, "settings": settings}
    )

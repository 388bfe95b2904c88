"""Write a Markdown table of what evaluations found.

python3 table.py TABLE.md RESULTS.json ...   (each written by one evaluate job)
"""

import json
import sys
from pathlib import Path

table, *files = map(Path, sys.argv[1:])
columns = [(file.parent.name, json.loads(file.read_text())) for file in files]
metrics = sorted(
    {(task, name) for _, found in columns for task, values in found.items() for name in values}
)
lines = [
    "| task | metric | " + " | ".join(name for name, _ in columns) + " |",
    "|---|---|" + "--:|" * len(columns),
]
for task, name in metrics:
    values = [found.get(task, {}).get(name) for _, found in columns]
    cells = ["" if value is None else f"{value:.4g}" for value in values]
    lines.append(f"| {task} | {name} | " + " | ".join(cells) + " |")
text = "\n".join(lines) + "\n"
table.write_text(text)
print(text, end="")

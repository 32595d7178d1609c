"""Type-checks every snippet of the documentation, with mypy and pyright: `python -m tests.typing`.

A snippet is checked as it stands, behind the imports and the application that its page takes for granted.
Snippets need not annotate their functions; all else is mypy's strict mode.
"""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from async_jwt.adapters import quart as adapter

ROOT = Path(__file__).parents[2]
GIVEN = {
    "asyncio": "import asyncio",
    "ec": "from cryptography.hazmat.primitives.asymmetric import ec",
    **dict.fromkeys(("UTC", "datetime", "timedelta"), "from datetime import {}"),
    **dict.fromkeys(("Quart", "jsonify", "make_response", "request", "websocket"), "from quart import {}"),
    **dict.fromkeys(("Key", "KeyRing"), "from async_jwt import {}"),
    **dict.fromkeys(adapter.__all__, "from async_jwt.adapters.quart import {}"),
}
DEFINED = {
    "app": 'app = Quart("snippet")',
    "jwt": "jwt = JWTManager(app)",
    **dict.fromkeys(("pem", "november", "december"), '{} = ""'),
    "User": "class User: ...",
    "private": "private = ec.generate_private_key(ec.SECP256R1())",
}
MYPY = [
    *("--strict", "--allow-untyped-defs", "--allow-incomplete-defs", "--allow-untyped-calls"),
    *("--allow-untyped-decorators", "--check-untyped-defs", "--disable-error-code=import-untyped"),
    *("--scripts-are-modules", "--config-file="),
]
# Libraries of others, whose types say less than they do.
PYRIGHT = {"reportMissingImports": True, "reportMissingModuleSource": False, "typeCheckingMode": "standard"}


def written(block: str) -> str:
    """A snippet as a module: what it uses and does not define itself comes first."""
    tree = ast.parse(block)
    own = {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom | ast.Import)
        for alias in node.names
    }
    for node in tree.body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            own.add(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            own |= {target.id for target in targets if isinstance(target, ast.Name)}
    used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)} - own
    if "jwt" in used:
        used |= {"app", "JWTManager"}
    if "app" in used:
        used.add("Quart")
    if "private" in used:
        used.add("ec")
    head = [line.format(name) for name, line in GIVEN.items() if name in used - own]
    head += [line.format(name) for name, line in DEFINED.items() if name in used - own]
    return "\n".join(["from __future__ import annotations", *head, block])


def main() -> int:
    """Check all of them. Returns the exit code."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for page in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]:
            blocks = re.findall(r"^```python\n(.*?)^```", page.read_text("utf-8"), re.DOTALL | re.MULTILINE)
            for number, block in enumerate(blocks):
                module = re.sub(r"\W", "_", str(page.relative_to(ROOT)))
                (folder / f"{module}_{number}.py").write_text(written(block), "utf-8")
        (folder / "pyrightconfig.json").write_text(json.dumps(PYRIGHT), "utf-8")
        checks = [
            [sys.executable, "-m", "mypy", *MYPY, name],
            ["pyright", "--pythonpath", sys.executable, "-p", name],
        ]
        return max(subprocess.run(check, cwd=ROOT, check=False).returncode for check in checks)


if __name__ == "__main__":
    sys.exit(main())

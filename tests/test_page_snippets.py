"""The documentation's snippets for pages, type-checked as a page's author would."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.require import require
from tests.test_docs import PAGES, ROOT, blocks

MODULES = ROOT / ".venv/npm/node_modules"
SCRIPT = ROOT / "sockjs_aio/page/reconnecting-sockjs.mjs"
NAMED = 'import { ReconnectingSockJS } from "./reconnecting-sockjs.mjs";\n'
"""What the classic script defines."""

OPTIONS = {
    "noEmit": True,
    "strict": True,
    "target": "es2022",
    "module": "esnext",
    "moduleResolution": "bundler",
    "lib": ["es2022", "dom"],
    "jsx": "react-jsx",
    "types": [],
    "skipLibCheck": True,  # a third of the time
}

WRONG = """
import { ReconnectingSockJS } from "./reconnecting-sockjs.mjs";

const socket = new ReconnectingSockJS("/echo", null, { maxDelays: 1 });
socket.addEventListener("reconnecting", (event) => console.log(event.delays));
"""


def shown() -> dict[str, str]:
    """Return the documentation's blocks as modules, by the names of their files."""
    found = {}
    for page in PAGES:
        for language, ending in (("ts", "ts"), ("tsx", "tsx"), ("js", "ts")):
            for number, block in enumerate(blocks(page, language)):
                name = f"{page.stem}_{language}_{number}.{ending}"
                found[name] = (NAMED if language == "js" else "") + block + "\nexport {};\n"
        for number, block in enumerate(blocks(page, "vue")):
            script = re.search(r"<script setup lang=\"ts\">\n(.*?)</script>", block, re.DOTALL)
            assert script, "a component's script"
            found[f"{page.stem}_vue_{number}.ts"] = script[1] + "\nexport {};\n"
    return found


def errors(folder: Path, sources: dict[str, str]) -> list[str]:
    """Return the first line of each error that TypeScript finds in `sources`."""
    require(shutil.which("node") and (MODULES / "typescript").exists(), "npm's typescript")
    for path in (SCRIPT, SCRIPT.with_suffix(".d.mts")):
        shutil.copy(path, folder)
    (folder / "node_modules").symlink_to(MODULES.resolve())
    (folder / "tsconfig.json").write_text(json.dumps({"compilerOptions": OPTIONS}))
    for name, source in sources.items():
        (folder / name).write_text(source)
    command = ["node", str(MODULES / "typescript/bin/tsc")]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.stderr == ""
    return [line for line in done.stdout.splitlines() if not line.startswith(" ")]


@pytest.mark.programs
@pytest.mark.timeout(120)
def test_snippets_for_pages_have_no_type_errors_and_wrong_ones_have(tmp_path: Path) -> None:
    sources = shown()
    endings = [Path(name).suffix for name in sources]
    assert endings.count(".ts") >= 3 and endings.count(".tsx") >= 1
    assert any("_vue_" in name for name in sources)
    found = errors(tmp_path, {**sources, "wrong.ts": WRONG})
    assert [line.partition("(")[0] for line in found] == ["wrong.ts", "wrong.ts"], found
    option, event = found
    assert option.startswith("wrong.ts(4,") and "maxDelays" in option
    assert event.startswith("wrong.ts(5,") and "delays" in event

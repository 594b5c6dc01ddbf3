"""What the site has beside the pages of this folder: the README as its first page, and the other folders' pages.

MkDocs calls the functions below (`hooks` in mkdocs.yml).
"""

import re
from pathlib import Path

from mkdocs.structure.files import File

ROOT = Path(__file__).resolve().parents[1]
PAGES = {
    "index.md": "README.md",
    "infra.md": "infra/README.md",
    "contributing.md": "CONTRIBUTING.md",
    "changes.md": "CHANGELOG.md",
    "security.md": "SECURITY.md",
}
"""Pages of the site by the files of the checkout that they are."""


def on_files(files, config):
    """Add the pages."""
    for page, source in PAGES.items():
        if (ROOT / source).exists():
            text = _relinked((ROOT / source).read_text(), (ROOT / source).parent)
            files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(markdown, page, config, files):
    """Let links to those files lead to their pages."""
    return (
        markdown if page.file.src_uri in PAGES else _relinked(markdown, ROOT / "docs" / Path(page.file.src_uri).parent)
    )


def _relinked(text: str, folder: Path) -> str:
    """The page with its links as they are in `docs`: `folder` is where the page lies."""

    def target(link: re.Match[str]) -> str:
        name, anchor = link[1], link[2] or ""
        if "://" in name or name.startswith("/"):
            return link[0]
        place = (folder / name).resolve()
        for page, source in PAGES.items():
            if place == ROOT / source:
                return f"]({page}{anchor})"
        if place.is_relative_to(ROOT / "docs") and folder.parent != ROOT / "docs" and folder != ROOT / "docs":
            return f"]({place.relative_to(ROOT / 'docs').as_posix()}{anchor})"
        return link[0]

    return re.sub(r"\]\(([^)#\s]+)(#[^)\s]*)?\)", target, text)

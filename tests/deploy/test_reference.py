"""The documentation is true: made from the code, complete, and its links lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path

from typer.main import get_command

from deploy.cli import app
from deploy.reference import PATH, reference
from deploy.settings import describe

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def commands() -> list[str]:
    root = get_command(app)
    names = []
    for name, command in root.commands.items():
        children = getattr(command, "commands", None)
        names += [f"{name} {child}" for child in children] if children else [name]
    return names


def test_no_help_loses_what_stands_in_brackets() -> None:
    """``--help`` takes ``[word]`` for a style, and prints nothing of it."""
    pending = [get_command(app)]
    for command in pending:
        pending += getattr(command, "commands", {}).values()
        texts = [command.help, *(getattr(one, "help", None) for one in command.params)]
        assert not [text for text in texts if re.search(r"\[[a-z#/@]", text or "")]


def test_the_reference_is_up_to_date() -> None:
    assert PATH.read_text(encoding="utf-8") == reference(), "run: python -m deploy.reference"


def test_every_setting_and_command_stands_in_it() -> None:
    text = PATH.read_text(encoding="utf-8")
    for name, _default, _description in describe():
        assert f"`{name}`" in text
    for name in commands():
        assert f"`preread {name}`" in text


def test_commands_of_the_readme_exist() -> None:
    known = {name.split()[0] for name in commands()}
    for used in re.findall(r"^(?:\$ )?preread (\w+)", README, re.MULTILINE):
        assert used in known
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for used in re.findall(r"(?:^|`)make ([\w-]+)", README, re.MULTILINE):
        assert used in targets


def test_links_of_the_readme_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        if not target.startswith("http"):
            assert (ROOT / target).exists(), target


def test_sql_of_the_documents_runs(database_url: str) -> None:
    import sqlalchemy as sa

    from db import create_engine
    from db.migrate import upgrade

    engine = create_engine(database_url)
    upgrade(engine)
    pages = (ROOT / "README.md", *sorted(PATH.parent.glob("*.md")))
    statements = [
        statement
        for page in pages
        for block in re.findall(r"```sql\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
        for statement in block.split(";")
        if statement.strip()
    ]
    assert len(statements) > 8
    with engine.connect() as connection:
        for statement in statements:
            connection.execute(sa.text(statement))
    engine.dispose()


def test_public_readers_stand_in_their_document() -> None:
    from inference.codes import CHEST_FINDINGS, CHEST_SITES
    from inference.public import offers

    text = (PATH.parent / "public_models.md").read_text(encoding="utf-8")
    for label, code in CHEST_FINDINGS.items():
        row = f"| {label} | {code.value} {code.scheme} {code.meaning} |"
        assert f"{row} {CHEST_SITES[label].meaning} |" in text
    for offer in offers():
        row = f"| `{offer.name}` | {len(offer.labels)} |"
        line = next(line for line in text.splitlines() if line.startswith(row))
        assert line.endswith(f"| `{offer.sha256}` |" if offer.sha256 else "| not known |")

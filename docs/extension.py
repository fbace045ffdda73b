r"""
What the site needs beyond Sphinx: names, citations, formulas, the command, links to code.
"""

from __future__ import annotations

import ast
import importlib
import re
from pathlib import Path
from typing import Any

import click
import typer
from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.addnodes import download_reference, pending_xref
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = "botorch_roma"

#: Where names are looked for that a docstring gives without their module.
ELSEWHERE = ("botorch.exceptions.errors", "ax.exceptions.core", "ax.exceptions.generation_strategy")
#: Names that modules import for type checkers only.
SHORT = {"pd": "pandas", "Figure": "matplotlib.figure.Figure", "Tensor": "torch.Tensor"}

#: Bars of a norm, which browsers would stretch over all that stands on one side of them.
_NORM = re.compile("<mo((?: class=[^>]*)?)>([‖∥])</mo>")

_CITATION = re.compile(r"^\.\. \[(\w+)\]$")


class References(SphinxDirective):
    """All publications that docstrings of the package cite, each once."""

    def run(self) -> list[nodes.Node]:
        """The citations, in alphabetical order."""
        found: dict[str, list[str]] = {}
        for path in sorted((ROOT / PACKAGE).rglob("*.py")):
            docstring = ast.get_docstring(ast.parse(path.read_text("utf-8"))) or ""
            for key, text in split_citations(docstring.splitlines())[1].items():
                if found.setdefault(key, text) != text:
                    raise self.error(f"{path} cites {key} in other words than another module.")
        lines = [line for key in sorted(found) for line in (f".. [{key}]", *found[key], "")]
        return self.parse_text_to_nodes("\n".join(lines))


class Commands(SphinxDirective):
    """The subcommands of ``botorch-roma`` and their options, from what ``--help`` prints."""

    def run(self) -> list[nodes.Node]:
        """A section for each subcommand."""
        from botorch_roma.cli import app

        lines: list[str] = []
        group: Any = typer.main.get_command(app)
        for name, command in group.commands.items():
            context = click.Context(command, info_name=f"botorch-roma {name}")
            usage = " ".join(command.collect_usage_pieces(context))
            lines += [f"botorch-roma {name}", "-" * (13 + len(name)), ""]
            lines += [f"``botorch-roma {name} {usage}``", ""]
            lines += [*(line.strip() for line in (command.help or "").splitlines()), ""]
            for option in command.params:
                record = option.get_help_record(context)
                if record and "--help" not in record[0]:
                    lines += [f"``{record[0]}``", f"    {_plain(record[1])}", ""]
        return self.parse_text_to_nodes("\n".join(lines), allow_section_headings=True)


def _plain(text: str) -> str:
    """A line of ``--help`` as reStructuredText."""
    return re.sub(r"([*`|\\])", r"\\\1", text) or "\\"


def split_citations(lines: list[str]) -> tuple[list[str], dict[str, list[str]]]:
    """A docstring without its citations, and these by key."""
    rest: list[str] = []
    citations: dict[str, list[str]] = {}
    text: list[str] | None = None
    for line in lines:
        if match := _CITATION.match(line):
            text = citations[match[1]] = []
        elif text is not None and line.startswith(" "):
            text.append(f"    {line.strip()}")
        else:
            text = None
            rest.append(line)
    if citations:
        rest = [line for line in rest if line.strip() != "References:"]
    return rest, citations


def prepare_docstring(
    app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]
) -> None:
    """Citations go to one page; a colon in a remark on a value does not end a type."""
    lines[:] = split_citations(lines)[0]
    if what in ("attribute", "data", "property"):
        lines[:0] = ["..", ""]  # an empty comment


def tidy_signature(
    app: Sphinx, what: str, name: str, obj: Any, options: Any, signature: str, returned: str
) -> tuple[str, str] | None:
    """A default that a factory makes is shown as dots, which can be parsed."""
    return (signature.replace("<factory>", "..."), returned) if signature else None


def tidy_bases(app: Sphinx, name: str, obj: Any, options: Any, bases: list[Any]) -> None:
    """All classes are objects."""
    bases[:] = [base for base in bases if base is not object]


def resolve_name(
    app: Sphinx, env: Any, node: pending_xref, content: nodes.Element
) -> nodes.Element | None:
    """Find a name where it is defined, if the docstring has it from where it is handed out.

    Names of other packages are shown without a link; a name of this package that is nowhere in the
    reference stays missing, which is an error.
    """
    if node.get("refdomain") != "py":
        return None
    target = node["reftarget"]
    scopes = [node.get("py:module"), None, *ELSEWHERE]
    names = [f"{scope}.{target}" if scope else _lengthen(target) for scope in scopes]
    found = next((name for name in map(_defined_as, names) if name), None)
    if found is None or not found.startswith(PACKAGE):
        return None if found is None else content
    objects = env.domains["py"].objects
    # Data, such as an alias of a type, do not know where they were defined.
    same = [name for name in objects if name.endswith(f".{target}")]
    entry = objects.get(found) or (objects[same[0]] if len(same) == 1 else None)
    if entry is None:
        return None
    uri = f"{app.builder.get_relative_uri(node['refdoc'], entry.docname)}#{entry.node_id}"
    return nodes.reference("", "", content, internal=True, refuri=uri, reftitle=found)


def _lengthen(target: str) -> str:
    first, dot, rest = target.partition(".")
    return f"{SHORT.get(first, first)}{dot}{rest}"


def _defined_as(dotted: str) -> str | None:
    """The full name of what an importable name stands for; None if there is no such thing."""
    parts = dotted.split(".")
    for i in range(len(parts), 0, -1):
        try:
            found: Any = importlib.import_module(".".join(parts[:i]))
        except (ImportError, ValueError):
            continue
        for part in parts[i:]:
            fields = getattr(found, "__dataclass_fields__", {})
            if part in fields:
                return f"{found.__module__}.{found.__qualname__}.{part}"
            if not hasattr(found, part):
                return None
            found = getattr(found, part)
        module, name = getattr(found, "__module__", None), getattr(found, "__qualname__", None)
        return f"{module}.{name}" if module and name else dotted
    return None


def leave_tables_out(app: Sphinx, doctree: nodes.document) -> None:
    """Tables that a benchmark wrote are reached by links; they need no entry in the menu."""
    if app.env.docname.startswith("benchmarks/"):
        app.env.metadata[app.env.docname].setdefault("orphan", "")


def link_to_code(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    """A link to a module of the package leads to its highlighted source."""
    for node in list(doctree.findall(download_reference)):
        path = (ROOT / Path(docname).parent / node["reftarget"]).resolve()
        if path.suffix == ".py" and path.is_relative_to(ROOT / PACKAGE):
            module = path.relative_to(ROOT).with_suffix("").as_posix()
            uri = app.builder.get_relative_uri(docname, f"_modules/{module}")
            node.replace_self(nodes.reference("", "", *node.children, refuri=uri, internal=True))


def write_entrance(app: Sphinx, exception: Exception | None) -> None:
    """The index of the built folder, which leads to the first page."""
    if exception is None and app.builder.name == "html":
        target = f"{app.config.root_doc}.html"
        lines = [
            '<!doctype html>\n<html lang="en">\n<meta charset="utf-8">',
            f"<title>{app.config.project}</title>",
            f'<meta http-equiv="refresh" content="0; url={target}">',
            f'<a href="{target}">{app.config.project}</a>\n</html>\n',
        ]
        (Path(app.outdir) / "index.html").write_text("\n".join(lines), encoding="utf-8")


def _math(as_block: bool) -> Any:
    """Formulas as MathML, which browsers draw themselves."""

    def visit(writer: Any, node: nodes.Element) -> None:
        formula = tex2mathml(node.astext(), as_block=as_block)
        formula = _NORM.sub(r'<mo stretchy="false"\1>\2</mo>', formula)
        writer.body.append(f'<div class="math-block">{formula}</div>' if as_block else formula)
        raise nodes.SkipNode

    return visit, None


def setup(app: Sphinx) -> dict[str, bool]:
    """Called by Sphinx."""
    app.add_directive("references", References)
    app.add_directive("commands", Commands)
    app.add_html_math_renderer("mathml", inline_renderers=_math(False), block_renderers=_math(True))
    app.connect("autodoc-process-docstring", prepare_docstring, priority=100)
    app.connect("autodoc-process-signature", tidy_signature)
    app.connect("autodoc-process-bases", tidy_bases)
    app.connect("missing-reference", resolve_name)
    app.connect("doctree-read", leave_tables_out)
    app.connect("doctree-resolved", link_to_code)
    app.connect("build-finished", write_entrance)
    return {"parallel_read_safe": True, "parallel_write_safe": True}

"""Tables as text: names of columns, and lines of as many cells."""


def as_text(columns: list[str], lines: list[list[str]]) -> str:
    """Aligned columns for a terminal."""
    widths = [max(map(len, column)) for column in zip(columns, *lines, strict=True)]
    rule = "  ".join("-" * width for width in widths)

    def show(line: list[str]) -> str:
        return "  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip()

    return "\n".join([show(columns), rule, *map(show, lines)])


def as_markdown(columns: list[str], lines: list[list[str]]) -> str:
    """A Markdown table."""
    return "\n".join("| " + " | ".join(line) + " |" for line in [columns, ["---"] * len(columns), *lines])

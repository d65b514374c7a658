"""Markup that is escaped unless it says otherwise."""

from __future__ import annotations

from html.parser import HTMLParser

from hypothesis import given
from hypothesis import strategies as st

from pilotfish.report.html import Markup, clean, document, escape, tag


def test_text_is_escaped_and_markup_is_not() -> None:
    assert tag("p", "<b>&", Markup("<i>x</i>"), title='"q"') == '<p title="&quot;q&quot;">&lt;b&gt;&amp;<i>x</i></p>'
    assert tag("li", "x", class_="a", id=None) == '<li class="a">x</li>'
    assert tag("meta", name="viewport", content="w") == '<meta name="viewport" content="w">'


@given(st.text(alphabet=st.characters(exclude_categories=[]), max_size=60))
def test_any_text_is_read_back_as_text(text: str) -> None:
    page = document(text, "", tag("p", text, title=text))
    page.encode("utf-8")
    found: list[str] = []
    titles: list[str | None] = []

    class Reader(HTMLParser):
        def handle_starttag(self, name: str, attributes: list[tuple[str, str | None]]) -> None:
            found.append(f"<{name}>")
            titles.extend(value for key, value in attributes if key == "title")

        def handle_data(self, data: str) -> None:
            found.append(data)

    Reader().feed(page)
    assert [f for f in found if f.startswith("<") and f.endswith(">")].count("<p>") == (1 if text != "<p>" else 2)
    assert clean(text) in "".join(found).replace("\r", "\n") or "\r" in text
    assert titles == [clean(text)]


def test_what_no_page_can_hold_is_replaced() -> None:
    assert clean("a\x00b\ud800c\u202ed") == "a�b?c�d"
    assert escape("a\nb") == "a\nb"

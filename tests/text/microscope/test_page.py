import re
from html.parser import HTMLParser
from unicodedata import normalize

from malmoi.text.microscope.comparison import Comparison, Material, examine
from malmoi.text.microscope.genre import Genre
from malmoi.text.microscope.page import as_html
from malmoi.text.microscope.prices import PriceTable

from .conftest import letters


class Page(HTMLParser):
    """What a browser would see: every tag, the text of each `dd`, the title of each token."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.titles: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if "title" in dict(attrs):
            self.titles.append(str(dict(attrs)["title"]))

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_holds_everything_and_runs_nothing(comparison: Comparison) -> None:
    text = as_html(comparison)
    page = Page(text)
    assert not {"script", "link", "img", "iframe"} & {tag for tag, _ in page.tags}
    assert not {"src", "href"} & {name for _, attributes in page.tags for name in attributes}
    assert "url(" not in text
    assert "@import" not in text


def test_every_token_says_its_id_and_bytes(comparison: Comparison) -> None:
    pieces = [piece for genre in comparison.material.sentences for one in comparison.tokenizers
              for piece in one.sentences[genre]]  # fmt: skip
    assert Page(as_html(comparison)).titles == [f"id {p.token}: {p.bytes.hex(' ')}" for p in pieces]


def test_names_and_texts_are_shown_and_not_obeyed(comparison: Comparison) -> None:
    page = Page(as_html(comparison))
    assert "<글자>" in page.text
    assert "<b>우리말</b>" in page.text
    assert {"&", "글자"}.isdisjoint(tag for tag, _ in page.tags)


def test_a_character_in_several_tokens_stands_before_its_bytes(comparison: Comparison) -> None:
    text = as_html(comparison)
    [cut] = re.findall(r'<span class="cut"><b>었</b>(.*?)</span></span>', text)
    assert re.findall(r">([0-9a-f ]+)<", cut + "<") == ["ec", "97", "88"]


def test_the_page_is_for_light_and_dark_and_for_a_phone(comparison: Comparison) -> None:
    text = as_html(comparison)
    assert "prefers-color-scheme: dark" in text
    assert 'name="viewport"' in text
    used = set(re.findall(r"var\((--\w+)\)", text))
    dark = text.partition("prefers-color-scheme: dark")[2].partition("} }")[0]
    assert used == set(re.findall(r"(--\w+):", dark))


def test_a_syllable_in_several_letters_stands_before_them() -> None:
    material = Material(genres=(Genre("뉴스", ("나는 언제나 즐겁게 학교에 다닌다.",)),))
    examined = examine("letters", letters(), material)
    text = as_html(Comparison(material=material, tokenizers=(examined,), prices=PriceTable.load()))
    [cut] = re.findall(r'<span class="cut"><b>학</b>(.*?)</span></span>', text)
    assert re.findall(r">([^<]+)<", cut + "<") == [*normalize("NFD", "학")]
    assert "<b>나</b>" in text
    assert "<b>.</b>" not in text

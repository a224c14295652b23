"""The report: whole in itself, readable on a phone, plain about what is wrong."""

from __future__ import annotations

import html.parser
import json
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from aiflow_cli.analysis.captions import pieces_of, token_kinds
from aiflow_cli.analysis.margins import MARGINS
from aiflow_cli.analysis.report import Written, markdown_cell, provenance_rows, write_report
from aiflow_cli.analysis.result import Result, load
from aiflow_cli.decoding.methods import Method
from aiflow_cli.errors import UsageError
from aiflow_cli.world.record import Delivery
from tests.analysis.records import FakePair, FakeSweep, records, write_records, write_result
from tests.analysis.test_metrics import RESPONSE, a_round
from tests.conftest import TinyPair
from tests.wire.strategies import SERVED

CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)
HEADLESS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=10000")
PHONE_PX = 390


@pytest.fixture(scope="module")
def page(reported: Written) -> str:
    return reported.html.read_text()


class _Page(html.parser.HTMLParser):
    """What a page refers to, its ids, and whether its tags are balanced."""

    VOID = ("meta", "img", "br", "hr", "link", "input")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.references: list[str] = []
        self.ids: list[str] = []
        self.tags: list[str] = []
        self.stack: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.references += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "data", "poster")]
        self.ids += [value or "" for name, value in attrs if name == "id"]
        if tag not in self.VOID:
            self.stack.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.stack.pop() == tag


def test_nothing_is_fetched(page: str) -> None:
    found = _Page(page)
    assert found.stack == []
    assert all(reference.startswith(("data:", "#")) for reference in found.references)
    assert not {"script", "link", "iframe", "object", "embed"} & set(found.tags)
    assert not re.search(r"url\(|@import", page)
    assert {r[1:] for r in found.references if r.startswith("#")} <= set(found.ids)
    assert page.count("data:image/svg+xml;base64,") == 6


def test_every_claim_has_its_verdict(page: str, reported: Written) -> None:
    for finding in reported.claims:
        assert finding.claim.statement in page
    for verdict in ("HOLDS", "DIFFERS", "UNDECIDED HERE"):
        count = sum(finding.verdict == verdict for finding in reported.claims)
        assert f"{count} {verdict}" in page


def test_words_of_the_claims_table_stay_whole(page: str) -> None:
    """A narrow column broke `small-weak` at its hyphen and `slightly` anywhere."""
    assert "overflow-wrap: anywhere" not in page
    assert ".claims .whole { white-space: nowrap; }" in page
    for name in ("small-weak", "small"):
        assert f'<td class="whole" data-label="here">{name}</td>' in page
    assert '<td class="whole" data-label="paper">slightly slower</td>' in page


def test_fit_and_calibration_stand_side_by_side(page: str) -> None:
    assert "fits the paper (no measurement)" in page
    assert "4, 2.01×, 22.3" in page


def test_markdown_says_the_same_and_its_pictures_are_there(reported: Written) -> None:
    text = reported.markdown.read_text()
    pictures = re.findall(r"\]\((figures/[^)]+)\)", text)
    assert len(pictures) == 6 * 4
    assert all((reported.markdown.parent / picture).is_file() for picture in pictures)
    tables = [line for line in text.splitlines() if line.startswith("|")]
    assert all(line.endswith("|") for line in tables)
    for finding in reported.claims:
        verdict = f"**{finding.verdict}**" if finding.verdict else "|  |"
        assert any(markdown_cell(finding.why) in line and verdict in line for line in tables)
    for margin in MARGINS.values():
        assert f": {margin.words}" in text
    widths = {line.count(" |") for line in tables if "**HOLDS**" in line}
    assert len(widths) == 1


@pytest.fixture(scope="module")
def photographs_result(tmp_path_factory: pytest.TempPathFactory) -> Result:
    """The small pair on photographs, with one draft length, and captions that are no HTML."""
    sweep = FakeSweep(pairs=(FakePair("small"),), gammas=(4,), images=3, co_located=(), data="vehicles-openimage")
    folder = write_result(tmp_path_factory.mktemp("photographs") / "run", sweep)
    write_records(folder, [r.replace(caption="<script>alert(1)</script> & more") for r in records(sweep)])
    return load(folder)


@pytest.fixture(scope="module")
def odd(photographs_result: Result) -> Written:
    return write_report(photographs_result)


def test_the_same_result_gives_the_same_report(photographs_result: Result, odd: Written, tmp_path: Path) -> None:
    again = write_report(photographs_result, tmp_path)
    assert again.html.read_bytes() == odd.html.read_bytes()
    assert again.markdown.read_bytes() == odd.markdown.read_bytes()
    assert [path.read_bytes() for path in again.figures] == [path.read_bytes() for path in odd.figures]


def test_photographs_with_the_small_pair(odd: Written) -> None:
    for path in (odd.html, odd.markdown):
        assert "The captions are wrong here." in path.read_text()


def test_text_from_a_result_is_escaped(odd: Written) -> None:
    text = odd.html.read_text()
    assert "<script>" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt; &amp; more" in text


def test_what_is_not_drawn_is_said(odd: Written) -> None:
    assert "Not drawn: figure6:" in odd.html.read_text()
    assert "Not drawn: speedup:" in odd.markdown.read_text()


def test_scenes_are_not_called_wrong(page: str) -> None:
    assert "captions are wrong" not in page


def test_no_server_only(tmp_path: Path) -> None:
    write_records(
        tmp_path, [r for r in records(FakeSweep(images=2, gammas=(4,))) if r.setting.method is not Method.SERVER_ONLY]
    )
    with pytest.raises(UsageError, match="no server-only trials"):
        write_report(load(tmp_path))
    assert not (tmp_path / "report.html").exists()


def test_tokens_are_told_apart_by_who_found_them() -> None:
    # of the last round the end of the caption was drafted, and accepted
    counts, times = [(4, 2, 3), (4, 4, 5), (2, 2, 2)], (0.1, 0.2, 0.3, 0.4)
    deliveries = tuple(map(Delivery, times, (1, 3, 5, 2)))
    kinds = token_kinds(RESPONSE.replace(deliveries=deliveries, rounds=tuple(a_round(*c) for c in counts)))
    expected = "o" + "aao" + "aaaao" + "aa"
    assert "".join(kind[0] for kind in kinds) == expected


def test_pieces_make_up_the_caption(tiny_pair: TinyPair) -> None:
    from aiflow_cli.models.tokenizer import load_tokenizer

    tokenizer = load_tokenizer(tiny_pair.draft)
    tokens = tokenizer.encode("a red bus heads left near the street.", bos=False)
    whole, rest = divmod(len(tokens) - 1, 2)
    rounds = (*[a_round(3, 1, 2)] * whole, *[a_round(1, 0, 1)] * rest)
    record = RESPONSE.replace(tokens=tuple(tokens), deliveries=(Delivery(0.1, 1),), rounds=rounds)
    pieces = pieces_of(record, tiny_pair.draft)
    assert "".join(piece.text for piece in pieces) == tokenizer.decode(tokens)
    assert {piece.kind for piece in pieces} == {"accepted", "own"}


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
def test_opens_in_chromium_fetches_nothing_and_fits_a_phone(reported: Written, tmp_path: Path) -> None:
    """The page in a frame of a phone's width, in a page that asks it how wide it came out and what it loaded."""
    frame = tmp_path / "frame.html"
    frame.write_text(
        f"""<!doctype html><body style="margin:0">
<iframe id="phone" style="width:{PHONE_PX}px;height:844px;border:0"></iframe><pre id="told"></pre>
<script>
const frame = document.getElementById("phone");
frame.onload = () => {{
  const page = frame.contentDocument, root = page.documentElement;
  const wide = [...page.querySelectorAll("body *")].filter(e => !e.closest(".wide") || e.className === "wide")
    .filter(e => e.getBoundingClientRect().right > {PHONE_PX} + 1).map(e => e.tagName);
  const images = [...page.images];
  document.getElementById("told").textContent = JSON.stringify({{
    width: root.scrollWidth, height: root.scrollHeight, wide, title: page.title,
    images: images.length, broken: images.filter(i => !i.naturalWidth).length,
    loaded: frame.contentWindow.performance.getEntriesByType("resource")
      .map(e => e.name).filter(n => !n.startsWith("data:")),
  }});
}};
frame.srcdoc = {json.dumps(reported.html.read_text()).replace("</", "<" + chr(92) + "/")};
</script>"""
    )
    finished = subprocess.run(
        [str(CHROMIUM), *HEADLESS, f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", frame.as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    found = re.search(r'<pre id="told">(\{.*?\})</pre>', finished.stdout, re.DOTALL)
    assert found, finished.stdout[-500:]
    told = json.loads(found[1].replace("&gt;", ">").replace("&lt;", "<").replace("&amp;", "&"))
    assert told["title"].startswith("figure6")
    assert told["height"] > 2000
    assert told["images"] == 6
    assert told["broken"] == 0
    assert told["loaded"] == []
    assert told["width"] <= PHONE_PX
    assert told["wide"] == []


def test_a_server_is_told_beside_the_machine_of_the_device(one_gamma: Result) -> None:
    pairs = [pair | {"server": msgspec.structs.asdict(SERVED)} for pair in one_gamma.document["pairs"]]
    rows = dict(provenance_rows(replace(one_gamma, document=one_gamma.document | {"pairs": pairs})))
    assert rows["server of small-weak"] == (
        f"t ({'0' * 16}) in float32 on cpu, 1 threads; a processor, 2 cores, GPU none, aiflow 1.0"
    )
    assert "server of small-weak" not in dict(provenance_rows(one_gamma))

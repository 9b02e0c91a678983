"""Texts of shops without their markup."""

import time

import pytest

from kaleidobert.datasets.sources import markup
from tests.support.catalogues import survey


@pytest.mark.parametrize("cell, plain", [
    ("<p class='a'>Red</p><p>tie</p>", "Red tie"), ("re<b>d</b> tie", "red tie"), ("A&nbsp;tie &amp; pin", "A tie & pin"),
    ("x<br/>y<BR>z", "x y z"), ("a &amp;amp; b &lt;i&gt;c&lt;/i&gt;", "a & b c"), ("<!-- x --> <script>var a = '<b>'</script>tie", "tie"),
    ("30&deg; &#8217; &#x41;", "30\u00b0 \u2019 A"), ("soft\\n\\nwarm\\r\\nlong", "soft warm long"), ("<o:p>tie</o:p>", "tie"),
    ("size < 40 and > 30", "size < 40 and > 30"), ("R&D, AT&T; <3 ties", "R&D, AT&T; <3 ties"), ("<unknown> tie", "<unknown> tie"),
    ("a<b and c>d", "a<b and c>d"), ("<p", "<p"), ("<br / >x<p  >y<a  b = 'c'>z</a>", "x yz"), ("<!-- a --> <!-- b\n-->x", "x"),
    ("<style>p {}</style>x<STYLE>q</Style >y", "x y"),
])
def test_markup(cell, plain):
    assert markup.plain(cell) == plain


def test_markup_is_counted_and_can_be_kept(tmp_path):
    table = "id,image,title,kind\n1,a.jpg,<b>Tie</b>,Ties &amp; Pins\n2,a.jpg,<p>&nbsp;</p>,k\n3,a.jpg,<p>NULL</p>,k\n4,a.jpg,Hat,k\n"
    result = survey(tmp_path, table)
    assert [(p.text, p.labels["category"]) for p in result.products] == [("Tie", "Ties & Pins"), ("Hat", "k")]
    assert "4 cells had HTML, which was taken out (source.strip_html): 'title' x 3, 'kind' x 1" in result.notes()
    assert survey(tmp_path, table, strip_html=False).products[0].text == "<b>Tie</b>"


@pytest.mark.parametrize("text", ["<!-- ", "<script ", "<a =", "<p  ", "&amp;lt;"], ids=("comment", "script", "equals", "blanks", "entity"))
def test_markup_that_never_ends_is_read_once(text):
    """A text of a megabyte would take hours where every beginning is followed to the end."""
    start = time.perf_counter()
    markup.plain(text * (1_000_000 // len(text)))
    markup.plain(text[:3] + text[3:4] * 1_000_000)
    assert time.perf_counter() - start < 30

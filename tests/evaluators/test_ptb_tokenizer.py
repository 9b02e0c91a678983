"""Words of captions: what the COCO evaluation's tokeniser was seen to give, and that tokeniser itself where it is installed."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from benchmarks import caption_metrics
from kaleidobert.evaluators.ptb_tokenizer import PUNCTUATION, tokenize, tokenize_all

FASHION = Path(os.environ.get("KALEIDO_SHARED", Path(__file__).resolve().parents[3] / "shared")) / "fashion"

SEEN = [  # text, what PTBTokenizer (stanford-corenlp-3.4.1) and pycocoevalcap's removal of punctuation leave, as one line
    ("Turtle Check Men Navy Blue Shirt", "turtle check men navy blue shirt"),
    ("Levi's Men's (Pack of 2) T-shirt, 100% cotton.", "levi 's men 's -lrb- pack of 2 -rrb- t-shirt 100 % cotton"),
    ("U.S. Polo Assn. Men's Q&Q H&M Reid&Taylor D&G", "u.s. polo assn. men 's q&q h&m reid & taylor d&g"),
    ("don't can't cannot won't it's I'M you'll gonna", "do n't ca n't can not wo n't it 's i 'm you 'll gon na"),
    ("men’s don’t don`t men`s LEVI’S", "men 's do n't do n`t men s levi 's"),
    ("wash/dry and/or w/o w/ a/b/c/d 1/2/3", "wash/dry and/or w/o w / a/b/c / d 1/2/3"),
    ("Cotton/28% Nylon/7% 98.5% of100%", "cotton/28 % nylon/7 % 98.5 % of100 %"),
    ("Cocona® LumaTech™ VELCRO®.", "cocona ® lumatech ™ velcro ®"),
    ("1 1/2 inch 5 3/4\" 10-1/2 ¼ 1½ 2¼\"", "1\xa01/2 inch 5\xa03/4 10-1/2 1/4 1 1/2 2 1/4"),
    ("8.0\" (21.0cm) 5'10\" Shoulders-18\". 75ml 9mm.", "8.0 -lrb- 21.0 cm -rrb- 5 10 shoulders-18 75ml 9mm"),
    ("Height-6.1', Chest-32\", thickness:10", "height-6 .1 chest-32 thickness :10"),
    ("EF-558D-7AVDF(ED438) MTP-1192E-7ADF (A166)", "ef-558d-7avdf -lrb- ed438 -rrb- mtp-1192e-7adf -lrb- a166 -rrb-"),
    ("s.Oliver N.Masti DK.Grey collar,long Inc.5 V.11", "s.oliver n.masti dk.grey collar long inc. 5 v. 11"),
    ("Volume: 29 L. The rest", "volume 29 l the rest"),
    ("Volume: 29 L. Perfect", "volume 29 l. perfect"),
    ("No.1 no. 5 is no. good", "no. 1 no. 5 is no good"),
    ("Mass. wash. Wash. tex Tex. etc. Dr. Ltd.", "mass. wash wash. tex tex. etc. dr. ltd."),
    ("mfg. Mfg. MFG. PTY. Pty.", "mfg. mfg. mfg pty pty."),
    ("comfort, low-is., boring! real... wow!! what?!", "comfort low-is. boring real wow !! what ?!"),
    ("rock'n'roll 'N D'Angelo o'clock l'oreal y'all 'em '07 '90s the '7",
     "rock 'n' roll 'n d'angelo o'clock l'oreal y' all 'em '07 '90s the 7"),
    ("“all-purpose,” ‘hi’ ''hi'' `hi` «hi»", "all-purpose hi hi hi hi"),
    ("words “‘both’” here", "words ``` both ''' here"),
    ("Tie+Cufflink+Pocket Max+ A+B a+b C++ F# #1 #tag +3", "tie + cufflink + pocket max + a+b a + b c++ f# # 1 #tag +3"),
    ("cream – black — T- -Logic track--and H&", "cream black t logic track and h &"),
    ("Madagascar3 3S 2go 3HD Twenty2yds Sk8-Hi", "madagascar3 3s 2go 3hd twenty2yds sk8-hi"),
    ("appliqué après-ski élan ÉLAN naïve", "appliqué après-ski élan élan naïve"),
    ("$5 US$5 £5 €5 5¢ Rs.500 Rs 500 ₹500", "$ 5 us$ 5 # 5 $ 5 5 cents rs .500 rs 500 500"),
    ("Tom &amp; Co. &lt;b&gt; a&nbsp;b caf&eacute;s", "tom & co. < b > a b caf&eacute;s"),
    ("www.reebok.com/uform. x.com/a me@shop.co.in", "www.reebok.com/uform x.com / a me@shop.co.in"),
    ("Cr_Ess Ba_by-G a__b chart_1.jpg", "cr_ess ba_by-g a __ b chart_1 jpg"),
    (":) x:P a:Plain (a:) ;D", ":-rrb- x :p a plain -lrb- a :-rrb- ;d"),
    ("80''S 99'S 90's Cheater'13 I\\/ Bw!tch", "80 s 99 's 90 's cheater '13 i \\ / bw!tch"),
    ("[a] {b} <b>bold</b> size < 5 ~ * **", "-lsb- a -rsb- -lcb- b -rcb- <b> bold </b> size < 5 ~ * **"),
    ("555-1234 (555) 123-4567 080 2345 6789", "555-1234 -lrb-555-rrb-\xa0123-4567 080\xa02345\xa06789"),
    ("anti- pro- non- x²³ m² a²", "anti- pro- non x ²³ m ² a ²"),
    ("soft\xadhyphen 12-12-2012 1/24-204 111/24-204", "softhyphen 12-12-2012 1/24-204 111/24 -204"),
    ("  \t ", ""), ("", ""), ("...", ""), ("zip\u200bper \U0001f45f x", "zip per x"),
]


@pytest.fixture(scope="module")
def program():
    """Skips where pycocoevalcap or Java is missing."""
    pytest.importorskip("pycocoevalcap.tokenizer.ptbtokenizer", reason="pip install --no-deps pycocoevalcap to compare with it")
    if shutil.which("java") is None:
        pytest.skip("the tokeniser of the COCO evaluation needs Java")
    return caption_metrics.reference_tokens


@pytest.mark.parametrize("text, expected", SEEN, ids=range(len(SEEN)))
def test_as_seen(text, expected):
    assert tokenize(text) == (expected.split(" ") if expected else [])


def test_the_next_caption_may_end_a_sentence():
    texts = ["Volume: 29 L.", "The bag", "Volume: 29 L.", "A4 bag", "shirt no.", "5 shirts"]
    assert [words[-1] for words in tokenize_all(texts)] == ["l", "bag", "l.", "bag", "no.", "shirts"]
    assert tokenize(texts[0]) == ["volume", "29", "l."]


def test_a_caption_stays_one_and_without_punctuation():
    assert tokenize("red\nbag\vand\u2028hat\r\n") == ["red", "bag", "and", "hat"]
    assert tokenize_all([]) == [] and tokenize_all(iter(["a", "", "b"])) == [["a"], [], ["b"]]
    assert not PUNCTUATION & set(tokenize("' `` . ? ! , : - -- ... ; ''"))


def test_long_texts_take_time_in_proportion():
    assert len(tokenize("a-" * 5000)) < 3
    assert len(tokenize("'\"(.;" * 5000)) == 5000
    assert len(tokenize("blue t-shirt's " * 5000)) == 15000


def test_the_table_is_what_the_program_gives(program):
    assert program([text for text, _ in SEEN[:-1]]) == [expected.split(" ") if expected else [] for _, expected in SEEN[:-1]]


def test_titles_and_descriptions_as_the_program(program):
    if not (FASHION / "products.csv").exists():
        pytest.skip("no ../shared/fashion (KALEIDO_SHARED names another place)")
    texts = [text for column in ("title", "description") for text in caption_metrics.read(FASHION / "products.csv", column)][-5000:]
    wrong = [(text, ours, theirs) for text, ours, theirs in zip(texts, tokenize_all(texts), program(texts)) if ours != theirs]
    assert not wrong


def test_damaged_texts_as_the_program(program):
    rng = np.random.Generator(np.random.Philox(3))
    letters = list("aBcDsT0159 .,:;'\"-/&+%()!?®é’”–½")
    parts = [text for text, _ in SEEN if text.isascii() and not set("<@&") & set(text)]
    texts = []
    for _ in range(4000):
        words = " ".join(["shirt", *(parts[place] for place in rng.integers(len(parts), size=2))]).split()
        words = [words[place] for place in rng.integers(len(words), size=3)]
        text = list(" ".join(words))
        for place in rng.integers(len(text), size=rng.integers(3)):
            text[place] = letters[rng.integers(len(letters))]
        texts.append("".join(text))
    wrong = [(text, ours, theirs) for text, ours, theirs in zip(texts, tokenize_all(texts), program(texts)) if ours != theirs]
    assert len(wrong) <= 20, wrong[:10]  # half a percent; real texts have none

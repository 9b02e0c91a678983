"""Terms of texts: content words and pairs of neighbours, singular and plural as one."""

from kaleidobert.preprocessors.terms import terms


def test_terms_are_content_words_and_pairs_of_neighbours():
    words = "Long Sleeves and flap pockets , 2 pockets .".split()
    assert [(term.name, term.words) for term in terms(words)] == [
        ("long", (0,)), ("sleeve", (1,)), ("flap", (3,)), ("pocket", (4,)), ("pocket", (7,)), ("long sleeve", (0, 1)),
        ("flap pocket", (3, 4))]
    assert terms([]) == [] and terms(["and", "."]) == []

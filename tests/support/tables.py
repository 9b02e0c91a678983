"""Level tables on which everything must work: the paper's, fewer, more, other grids and names, levels of which nothing is predicted."""

from kaleidobert.levels import KALEIDO, KaleidoLevel

TWO = (KaleidoLevel("whole", 1, "rotate"), KaleidoLevel("quarters", 2, "blank", num_masked=1))
SIX = (*KALEIDO, KaleidoLevel("fine", 6, "blank", num_masked=4))
CLASSES = (KaleidoLevel("turned", 2, "rotate"), KaleidoLevel("swapped", 2, "camouflage", num_masked=1))
BARE = (KaleidoLevel("whole", 1, "none"), KaleidoLevel("shuffled", 2, "shuffle"), KaleidoLevel("ninths", 3, "none"))
TABLES = {"kaleido": KALEIDO, "two": TWO, "six": SIX, "classes": CLASSES}
ALL = TABLES | {"bare": BARE}  # also one without masked patches, for what needs no alignment

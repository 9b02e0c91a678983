"""Which function sketches which subcategory: sketch(design, back) -> Sketch."""

from collections.abc import Callable

from kaleidobert.drawing.design import Design
from kaleidobert.drawing.garments import bags, bottoms, dresses, hats, outerwear, shoes, tops
from kaleidobert.drawing.garments.sketch import Sketch

SKETCHES: dict[str, Callable[[Design, bool], Sketch]] = {
    "T-SHIRTS": tops.t_shirt, "SHIRTS": tops.shirt, "POLOS": tops.polo, "TANK TOPS": tops.tank_top,
    "SWEATERS": tops.sweater, "CARDIGANS": tops.cardigan, "HOODIES": tops.hoodie,
    "COATS": outerwear.coat, "BOMBERS": outerwear.bomber, "BLAZERS": outerwear.blazer, "DOWN JACKETS": outerwear.down_jacket,
    "JEANS": bottoms.jeans, "SHORTS": bottoms.shorts, "SWEATPANTS": bottoms.sweatpants,
    "DRESSES": dresses.dress, "GOWNS": dresses.gown, "SKIRTS": dresses.skirt, "JUMPSUITS": dresses.jumpsuit,
    "SNEAKERS": shoes.sneaker, "BOOTS": shoes.boot, "HEELS": shoes.pump, "SANDALS": shoes.sandal, "LOAFERS": shoes.loafer,
    "TOTES": bags.tote, "BACKPACKS": bags.backpack, "CLUTCHES": bags.clutch, "SHOULDER BAGS": bags.shoulder_bag,
    "CAPS": hats.cap, "BEANIES": hats.beanie, "BRIMMED HATS": hats.hat,
}

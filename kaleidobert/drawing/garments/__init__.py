"""Sketches of garments, shoes and bags; SKETCHES names the function of every subcategory: sketch(design, back) -> Sketch."""

from collections.abc import Callable

from kaleidobert.drawing.design import Design
from kaleidobert.drawing.garments import accessories, bottoms, shoes, tops
from kaleidobert.drawing.sketch import Sketch

SKETCHES: dict[str, Callable[[Design, bool], Sketch]] = {
    "T-SHIRTS": tops.t_shirt, "SHIRTS": tops.shirt, "POLOS": tops.polo, "TANK TOPS": tops.tank_top,
    "SWEATERS": tops.sweater, "CARDIGANS": tops.cardigan, "HOODIES": tops.hoodie,
    "COATS": tops.coat, "BOMBERS": tops.bomber, "BLAZERS": tops.blazer, "DOWN JACKETS": tops.down_jacket,
    "JEANS": bottoms.jeans, "SHORTS": bottoms.shorts, "SWEATPANTS": bottoms.sweatpants,
    "DRESSES": bottoms.dress, "GOWNS": bottoms.gown, "SKIRTS": bottoms.skirt, "JUMPSUITS": bottoms.jumpsuit,
    "SNEAKERS": shoes.sneaker, "BOOTS": shoes.boot, "HEELS": shoes.pump, "SANDALS": shoes.sandal, "LOAFERS": shoes.loafer,
    "TOTES": accessories.tote, "BACKPACKS": accessories.backpack, "CLUTCHES": accessories.clutch, "SHOULDER BAGS": accessories.shoulder_bag,
    "CAPS": accessories.cap, "BEANIES": accessories.beanie, "BRIMMED HATS": accessories.hat,
}

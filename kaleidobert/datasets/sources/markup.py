"""Texts of shops without what is meant for browsers: HTML tags, entities, scripts and comments, and line breaks written as \\\\n."""

import html
import re

TAGS = ("a|abbr|address|article|aside|audio|b|bdi|bdo|big|blockquote|body|br|button|caption|center|cite|code|col|colgroup|dd|del|details|"
        "div|dl|dt|em|figcaption|figure|font|footer|form|h[1-6]|head|header|hr|html|i|iframe|img|input|ins|kbd|label|li|link|main|mark|"
        "meta|nav|nobr|object|ol|option|p|picture|pre|q|s|samp|section|select|small|source|span|strike|strong|sub|summary|sup|svg|table|"
        r"tbody|td|tfoot|th|thead|time|title|tr|tt|u|ul|video|wbr|[a-z]+[:-][a-z:-]+")
END = r"(?:\s[^<>=]*=[^<>]*|\s*(?:/\s*)?)>"  # a<b and c>d is none
INLINE = re.compile(rf"</?(?:a|abbr|b|big|em|font|i|mark|small|span|strong|sub|sup|u){END}", re.IGNORECASE)
TAG = re.compile(rf"</?(?:{TAGS}){END}", re.IGNORECASE)
HIDDEN = re.compile(  # what is open ends at the next of its kind at the latest, so that a text is read once, whatever it holds
    r"<!--(?:(?!<!--).)*?-->|<(script|style|template|noscript)\b(?:(?!<\1\b).)*?</\1\s*>|<!doctype[^<>]*>|<!\[CDATA\[|\]\]>",
    re.IGNORECASE | re.DOTALL)
ENTITY = re.compile(r"&(?:#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[a-zA-Z][a-zA-Z0-9]{1,31});")
BREAK = re.compile(r"(?:\\r)?\\n")
PASSES = 3  # entities of entities, such as &amp;nbsp;, and tags in entities


def plain(text: str) -> str:
    """Returns a text without markup; blanks around tags of blocks. Of other texts nothing changes.

    >>> plain("<p>A <b>red</b>&nbsp;shirt of cotton &amp; linen</p><ul><li>size < 40</li></ul>")
    'A red shirt of cotton & linen size < 40'
    """
    if "<" not in text and "&" not in text and "\\n" not in text:
        return text
    result = BREAK.sub(" ", text)
    for _ in range(PASSES):
        before = result
        result = TAG.sub(" ", INLINE.sub("", HIDDEN.sub(" ", result)))
        result = ENTITY.sub(lambda match: html.unescape(match[0]), result)
        if result == before:
            break
    return text if result == text else " ".join(result.split())

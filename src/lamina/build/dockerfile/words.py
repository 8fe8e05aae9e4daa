"""Cutting an instruction's arguments: flags in front, and words whose quotes are kept for expansion later."""

from __future__ import annotations

from lamina.build.dockerfile.blanks import is_space


def split_words(text: str, escape: str) -> list[str]:
    """Split at blanks outside of quotes; quotes and escape characters stay in the words.

    An escape at the very end of the text is dropped. A quote that is never closed runs to the end of the text; the
    error comes from the expansion of that word.
    """
    words: list[str] = []
    at = 0
    while at < len(text):
        if is_space(text[at]):
            at += 1
            continue
        word, at, _ = _word(text, at, escape, keep=True)
        if word:
            words.append(word)
    return words


def split_flags(text: str, escape: str) -> tuple[list[str], str]:
    """Take the words that begin with `--` off the front, without their quotes and escapes (D04).

    Returns:
        The flags, and the rest of the text. A lone `--` ends the flags and belongs to neither.
    """
    flags: list[str] = []
    at = 0
    while at < len(text):
        if is_space(text[at]):
            at += 1
            continue
        if not text.startswith("--", at):
            break
        word, at, quoted = _word(text, at, escape, keep=False)
        if word == "--" and not quoted:
            break
        flags.append(word)
    return flags, text[at:]


def _word(text: str, at: int, escape: str, *, keep: bool) -> tuple[str, int, bool]:
    """Read one word from a non-blank position.

    Args:
        text: the arguments.
        at: where the word begins.
        escape: the escape character.
        keep: whether quotes and escape characters stay in the word.

    Returns:
        The word, the position after it, and whether some of it was quoted.
    """
    result: list[str] = []
    mark = ""
    quoted = False
    while at < len(text):
        char = text[at]
        at += 1
        if not mark and is_space(char):
            break
        # In kept words nothing can be escaped inside single quotes, as in a shell.
        if char == escape and not (keep and mark == "'"):
            if at < len(text):
                result.append(char + text[at] if keep else text[at])
                at += 1
            continue
        if char == mark or (not mark and char in "'\""):
            mark = "" if mark else char
            quoted = True
            if not keep:
                continue
        result.append(char)
    return "".join(result), at, quoted

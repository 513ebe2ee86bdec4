"""CharTokenizer: a token for each character, and one that begins and ends documents."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from nn.errors import InputError


class CharTokenizer:
    """Characters, sorted, are tokens 0, 1, ...; the last token, `bos`, stands before and after each document."""

    def __init__(self, characters: Iterable[str]) -> None:
        self.characters = sorted(set(characters))
        if not self.characters:
            raise InputError("tokenizer: expected one character or more; got none")
        self._tokens = {character: token for token, character in enumerate(self.characters)}
        self.bos = len(self.characters)
        self.vocab_size = len(self.characters) + 1

    def encode(self, text: str) -> list[int]:
        """The tokens of a text, without `bos`.

        Raises: InputError naming the first character that is not known, and where it stands.
        """
        try:
            return [self._tokens[character] for character in text]
        except KeyError as error:
            character = error.args[0]
            known = "".join(self.characters[:100]) + ("..." if len(self.characters) > 100 else "")
            raise InputError(
                f"tokenizer: expected characters among {known!r}; "
                f"got {character!r} at {text.index(character)} of {text[:40]!r}"
            ) from None

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of tokens; `bos` shows as nothing.

        Raises: InputError for a token that does not exist.
        """
        wrong = [token for token in tokens if not 0 <= token < self.vocab_size]
        if wrong:
            raise InputError(f"tokenizer: expected tokens from 0 to {self.vocab_size - 1}; got {wrong[0]}")
        return "".join(self.characters[token] for token in tokens if token != self.bos)

    def as_dict(self) -> dict[str, object]:
        return {"type": "char", "characters": "".join(self.characters)}

    @classmethod
    def from_dict(cls, description: object) -> CharTokenizer:
        """The tokenizer that `as_dict` described. Raises: InputError for another description."""
        characters = description.get("characters") if isinstance(description, dict) else None
        if not isinstance(characters, str) or description != {"type": "char", "characters": characters}:
            raise InputError(f'tokenizer: expected type "char" with characters; got {str(description)[:80]}')
        return cls(characters)

"""Text to tokens and back."""

from __future__ import annotations

from collections.abc import Iterable
from ctypes import byref, c_size_t, c_uint32, c_void_p
from typing import Any

from ._library import c_text, check, lib, take_text
from .errors import NotFoundError


class Tokens:
    """The model's tokenizer."""

    _handle: int

    def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
        """Token ids of a text; special tokens as the tokenizer's own post-processing adds them."""
        raw, count, room = c_text(text, "text"), c_size_t(), len(text) + 16
        while True:
            ids = (c_uint32 * room)()
            check(lib.mlxterp_model_encode(self._handle, raw, add_special_tokens, ids, room, byref(count)))
            if count.value <= room:
                return list(ids[: count.value])
            room = count.value

    def encode_batch(self, texts: Iterable[str], add_special_tokens: bool = True) -> list[list[int]]:
        """Token ids of several texts."""
        return [self.encode(text, add_special_tokens) for text in texts]

    def decode(self, ids: Any, skip_special_tokens: bool = False) -> str:
        """Text of token ids."""
        listed = ids.tolist() if hasattr(ids, "tolist") else ids
        numbers = [_id(t) for t in (listed if isinstance(listed, Iterable) else [listed])]
        out = c_void_p()
        told = (c_uint32 * max(len(numbers), 1))(*numbers)
        check(lib.mlxterp_model_decode(self._handle, told, len(numbers), skip_special_tokens, byref(out)))
        return take_text(out.value)

    def token_to_str(self, token: Any) -> str:
        """Text of one token, with the space before it where it has one."""
        out = c_void_p()
        check(lib.mlxterp_model_token_to_str(self._handle, _id(token), byref(out)))
        return take_text(out.value)

    def to_str_tokens(self, text: Any, add_special_tokens: bool = True) -> list[str]:
        """The tokens of a text (or of ids), each as text."""
        ids = self.encode(text, add_special_tokens) if isinstance(text, str) else text
        return [self.token_to_str(t) for t in (ids.tolist() if hasattr(ids, "tolist") else ids)]

    @property
    def has_tokenizer(self) -> bool:
        """Whether texts can be given, or token ids only."""
        try:
            self.encode("")
        except NotFoundError:
            return False
        return True


def _id(token: Any) -> int:
    number = int(token.item() if hasattr(token, "item") else token)
    if not 0 <= number < 2**32:
        raise ValueError(f"token id {number} is out of range")
    return number

"""Generation: step by step, each step a trace."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from ctypes import byref, c_char_p, c_size_t, c_uint32, c_void_p, sizeof
from typing import TYPE_CHECKING, Any, NamedTuple

from . import _abi, _mlx
from ._library import Handle, c_text, check, lib, take_text
from .batch import Batch, batch
from .cache import Cache
from .convert import asarray
from .dtypes import float32, float64
from .errors import InvalidArgumentError, UnsupportedError
from .interventions import Intervention, intervention
from .trace import Trace, pairs

if TYPE_CHECKING:
    from .model import InterpretableModel

_WHEN = {"always": 0, "prefill": 1, "decode": 2}


class Condition(Handle):
    """True for a row while `direction . value + bias` is above (or below) a number, where `value` is what `site` has at the
    row's last position."""

    __slots__ = ()
    _free = lib.mlxterp_condition_free

    def __init__(
        self, site: str, direction: Any, *, above: float | None = None, below: float | None = None, bias: float = 0.0
    ) -> None:
        if (above is None) == (below is None):
            raise InvalidArgumentError("a condition needs above= or below=, one of the two")
        threshold = float(above if above is not None else below or 0.0)
        vector = asarray(direction)
        vector = vector.astype(float32) if vector.dtype == float64 else vector
        out, told = c_void_p(), c_text(site, "site")
        door = lib.mlxterp_condition_new
        check(door(told, vector._handle, float(bias), threshold, below is not None, byref(out)))
        self._handle = out.value or 0

    def __repr__(self) -> str:
        out = c_void_p()
        check(lib.mlxterp_condition_describe(self._handle, byref(out)))
        return take_text(out.value)


class Steer(NamedTuple):
    """A change that is made again in every step it is meant for."""

    #: Site or pattern.
    pattern: str
    #: What is done there: an intervention or a function. Position -1 is the newest token in every step.
    intervention: Any
    #: "prefill" (step 0, over the prompt), "decode" (every later step) or "always".
    when: str = "always"
    #: Only in rows that meet it, decided anew in every step. A probe that lies behind the change decides over the next step.
    only_while: Condition | None = None


class Drawn(NamedTuple):
    """What one row drew in one step."""

    token: int
    #: Text that is complete with it; often empty, never part of a character.
    text: str
    #: Why the row ended with it: "eos", "stop" or "length"; None while it goes on.
    finish: str | None


class Completion(NamedTuple):
    """A row as far as it has come."""

    prompt: list[int]
    tokens: list[int]
    text: str
    finish: str | None
    #: The stop string that ended it.
    stop: str | None


class Step:
    """One step: `trace` can be read and written until the tokens are drawn, which happens when they are asked for or when
    the next step is."""

    def __init__(self, generation: Generation, number: int, trace: Trace) -> None:
        self._generation = generation
        #: 0 over the prompts, then one for each token.
        self.number = number
        #: The run over the step's tokens. Rows that ended earlier have length 0 in it.
        self.trace = trace
        self._drawn: list[Drawn | None] | None = None

    @property
    def drawn(self) -> list[Drawn | None]:
        """What each row drew; None for rows that had ended before."""
        if self._drawn is None:
            self._drawn = self._generation._draw(self.number)
        return self._drawn

    def _only(self) -> Drawn:
        drawn = self.drawn
        if len(drawn) != 1 or drawn[0] is None:
            raise InvalidArgumentError(f"there are {len(drawn)} rows: use step.drawn[row]")
        return drawn[0]

    @property
    def token(self) -> int:
        """The token drawn, of a generation with one row."""
        return self._only().token

    @property
    def text(self) -> str:
        """The text that became complete, of a generation with one row."""
        return self._only().text

    def __repr__(self) -> str:
        return f"<step {self.number}>"


class Generation(Handle):
    """A generation under way: iterate over its steps, or ask for `text`."""

    __slots__ = ("_model", "_steps", "_current", "_on_step", "_failed")
    _free = lib.mlxterp_generation_free

    def __init__(self, handle: int, model: InterpretableModel, on_step: Callable[[Step], Any] | None) -> None:
        self._handle = handle
        self._model = model
        self._steps = 0
        self._current: Step | None = None
        self._on_step = on_step
        self._failed = False

    def __iter__(self) -> Generation:
        return self

    def __next__(self) -> Step:
        if self._failed:
            raise StopIteration
        if self._current is not None:
            # So that a step's tokens can still be asked for when it is no longer the newest.
            _ = self._current.drawn
            self._current = None
        out, tokens = c_void_p(), c_void_p()
        check(lib.mlxterp_generation_next(self._handle, byref(out)))
        if not out.value:
            raise StopIteration
        check(lib.mlxterp_trace_batch(out, byref(tokens)))
        trace = Trace(out.value, self._model, Batch(tokens.value or 0))
        self._current = step = Step(self, self._steps, trace)
        self._steps += 1
        if self._on_step is not None:
            try:
                self._on_step(step)
            except BaseException:
                self._failed, self._current = True, None
                raise
        return step

    def _draw(self, number: int) -> list[Drawn | None]:
        if number != self._steps - 1:
            raise InvalidArgumentError(f"step {number} drew nothing: the generation failed in it")
        out = c_void_p()
        check(lib.mlxterp_generation_drawn_json(self._handle, byref(out)))
        return [None if d is None else Drawn(**d) for d in json.loads(take_text(out.value))]

    def run(self) -> Generation:
        """Runs to the end."""
        for _ in self:
            pass
        return self

    @property
    def done(self) -> bool:
        """Whether no step will follow."""
        return self._failed or bool(lib.mlxterp_generation_is_done(self._handle))

    @property
    def rows(self) -> list[Completion]:
        """Every row as far as it has come, in the order of the prompts."""
        out = c_void_p()
        check(lib.mlxterp_generation_rows_json(self._handle, byref(out)))
        return [Completion(**row) for row in json.loads(take_text(out.value))]

    def _rows_asked_for(self) -> list[Completion]:
        if self._steps == 0:
            self.run()
        return self.rows

    @property
    def texts(self) -> list[str]:
        """The text of each row: runs to the end if no step was begun, else what there is so far."""
        return [row.text for row in self._rows_asked_for()]

    @property
    def text(self) -> str:
        """The text of a generation with one row: runs to the end if no step was begun, else what there is so far."""
        texts = self.texts
        if len(texts) != 1:
            raise InvalidArgumentError(f"there are {len(texts)} rows: use texts")
        return texts[0]

    @property
    def tokens(self) -> list[list[int]]:
        """The tokens drawn for each row: runs to the end if no step was begun, else what there is so far."""
        return [row.tokens for row in self._rows_asked_for()]

    def cache(self) -> Cache:
        """What the model remembers of the prompts and the tokens that were run so far."""
        out = c_void_p()
        check(lib.mlxterp_generation_cache(self._handle, byref(out)))
        return Cache(out.value or 0)

    def __repr__(self) -> str:
        return f"<generation of {self._model.name}, {self._steps} steps begun>"


def steers_of(given: Any) -> list[Steer]:
    """Steers, tuples of their parts, or `{site or pattern: intervention}`."""
    if given is None:
        return []
    if isinstance(given, Mapping):
        return [Steer(pattern, what) for pattern, what in given.items()]
    if isinstance(given, Steer) or not isinstance(given, Iterable):
        given = [given]
    made = []
    for one in given:
        if isinstance(one, Steer):
            made.append(one)
        elif isinstance(one, tuple) and 2 <= len(one) <= 4:
            made.append(Steer(*one))
        else:
            raise TypeError(f"steering must be a list of Steer or (site, intervention, when, condition), not {one!r}")
    return made


def start(
    model: InterpretableModel,
    prompts: Any,
    numbers: Mapping[str, Any],
    stop: str | Sequence[str],
    eos: Sequence[int] | None,
    steers: list[Steer],
    keep: str,
    strict: bool,
    on_step: Callable[[Step], Any] | None,
) -> Generation:
    """Starts a generation. Nothing is computed."""
    if not model._handle:
        raise UnsupportedError("an mlx.nn.Module does not generate here: load its checkpoint by path or id")
    _mlx.teach()
    if keep not in ("read", "all"):
        raise ValueError(f"keep='{keep}': use 'read' or 'all'")
    options = _abi.mlxterp_generate_options()
    check(lib.mlxterp_generate_options_init_sized(byref(options), sizeof(options)))
    for name, value in numbers.items():
        setattr(options, name, value)
    stops = [stop] if isinstance(stop, str) else list(stop)
    options.stops = (c_char_p * max(len(stops), 1))(*(c_text(s, "a stop string") for s in stops))
    options.stop_count = len(stops)
    if eos is not None:
        options.eos_ids = (c_uint32 * max(len(eos), 1))(*eos)
        options.eos_count = len(eos)
    changes: list[Intervention] = [intervention(s.intervention) for s in steers]
    n = len(steers)
    for s in steers:
        if s.when not in _WHEN:
            raise InvalidArgumentError(f"no steps are called {s.when!r}: use 'prefill', 'decode' or 'always'")
    options.patterns = (c_char_p * max(n, 1))(*(c_text(s.pattern, "a pattern") for s in steers))
    options.interventions = (c_void_p * max(n, 1))(*(c._handle for c in changes))
    options.whens = (c_uint32 * max(n, 1))(*(_WHEN[s.when] for s in steers))
    conditions = [None if s.only_while is None else s.only_while._handle for s in steers]
    options.conditions = (c_void_p * max(n, 1))(*conditions)
    options.intervention_count = n
    options.keep_all, options.strict = int(keep == "all"), int(strict)
    tokens = prompts if isinstance(prompts, Batch) else batch(model, prompts)
    out = c_void_p()
    check(lib.mlxterp_generation_start(model._handle, tokens._handle, byref(options), byref(out)))
    return Generation(out.value or 0, model, on_step)


def numbers(
    max_tokens: int, temperature: float, top_k: int | None, top_p: float, min_p: float, seed: int
) -> dict[str, Any]:
    """The numbers among the options, refused where C would bend them."""
    limit = 2 ** (8 * sizeof(c_size_t))
    for name, value, least in (("max_tokens", max_tokens, 1), ("top_k", top_k, 1), ("seed", seed, 0)):
        if value is not None and not least <= value < limit:
            raise InvalidArgumentError(f"{name} is {value}: it must be {least} or more")
    return {
        "max_tokens": max_tokens,
        "temperature": float(temperature),
        "top_k": top_k or 0,
        "top_p": float(top_p),
        "min_p": float(min_p),
        "seed": seed,
    }


class Generates:
    """What a model does with prompts beyond running them once."""

    _handle: int
    steering: list[Any]

    def generate(
        self,
        prompts: Any,
        max_tokens: int = 128,
        *,
        temperature: float = 0.0,
        top_k: int | None = None,
        top_p: float = 1.0,
        min_p: float = 0.0,
        seed: int = 0,
        stop: str | Sequence[str] = (),
        eos: Sequence[int] | None = None,
        interventions: Any = None,
        steering: Any = None,
        keep: str = "read",
        strict: bool = False,
        on_step: Callable[[Step], Any] | None = None,
    ) -> Generation:
        """Starts a generation: iterate over its steps, each a trace, or ask for its `text`.

        max_tokens: the most tokens drawn for a row.
        temperature, top_k, top_p, min_p: how they are drawn, filtered in this order; temperature 0 is greedy.
        seed: row `r` of a batch draws what it would draw alone with `seed + r`.
        stop: a text, or several, that end a row; the row's text stops before it.
        eos: token ids that end a row; by default those the model's files name, [] for none.
        interventions: {site or pattern: intervention or function} for every step.
        steering: a list of `Steer`, or of tuples (site or pattern, intervention, "prefill" | "decode" | "always", condition).
        keep, strict: of every step's trace.
        on_step: called with every step before its tokens are drawn; what it raises ends the generation.
        """
        model: Any = self
        own = [Steer(*pair) for s in self.steering for pair in s.interventions]
        steers = own + [Steer(*pair) for pair in pairs(interventions)] + steers_of(steering)
        told = numbers(max_tokens, temperature, top_k, top_p, min_p, seed)
        return start(model, prompts, told, stop, eos, steers, keep, strict, on_step)

    def apply_chat_template(self, messages: Any, add_generation_prompt: bool = False, **extra: Any) -> str:
        """A conversation as the model's chat template writes it: a list of {"role": …, "content": …}.

        add_generation_prompt: end where the assistant's answer begins. Further names go to the template: tools=,
        documents=, enable_thinking=; chat_template= is another template.
        """
        out = c_void_p()
        told = _json(messages, "messages"), add_generation_prompt, _json(extra, "the template's names")
        check(lib.mlxterp_model_apply_chat_template(self._handle, *told, byref(out)))
        return take_text(out.value)

    def chat(
        self, messages: Any, max_tokens: int = 128, *, template: Mapping[str, Any] | None = None, **options: Any
    ) -> Generation:
        """Starts the answer to a conversation: a text, a list of messages, or a list of such lists, one row each.

        template: further names for the chat template. All else is as in `generate`.
        """
        if isinstance(messages, str):
            messages = [{"role": "user", "content": messages}]
        out = c_void_p()
        told = _json(messages, "messages"), _json(dict(template or {}), "template")
        check(lib.mlxterp_batch_from_chats(self._handle, *told, byref(out)))
        return self.generate(Batch(out.value or 0), max_tokens, **options)


def _json(value: Any, name: str) -> bytes:
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    except (TypeError, ValueError) as e:
        raise InvalidArgumentError(f"{name} cannot be written as JSON: {e}") from None

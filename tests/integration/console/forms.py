"""The forms of a page, filled in and submitted as a browser does that runs no script."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from html.parser import HTMLParser


@dataclass
class Form:
    """A form that posts. values: of its fields as the page has them, without boxes that are not ticked."""

    action: str
    values: dict[str, str] = field(default_factory=dict)
    boxes: set[str] = field(default_factory=set)
    choices: dict[str, list[str]] = field(default_factory=dict)
    required: set[str] = field(default_factory=set)

    def filled(self, typed: Mapping[str, str]) -> dict[str, str]:
        """The fields that a browser sends once these are filled in. Fails for what a person could not do here."""
        sent = dict(self.values)
        for name, value in typed.items():
            assert name in self.values or name in self.boxes or name in self.choices, f"there is no field {name}"
            assert name not in self.choices or value in self.choices[name], f"{name} has no choice {value}"
            sent[name] = value
        assert not [name for name in self.required if not sent.get(name)], "a browser asks for all that is required"
        return sent


class _Forms(HTMLParser):
    """The posting forms of a page at `path`, by its HTML."""

    def __init__(self, text: str, path: str) -> None:
        super().__init__()
        self.found: list[Form] = []
        self._path = path
        self._form: Form | None = None
        self._select = self._text = ""
        self._is_bare = self._is_chosen = False  # of an option: its text is its value; it is the chosen one
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attributes}
        if tag == "form":
            self._form = Form(given.get("action") or self._path) if given.get("method") == "post" else None
            self.found += [self._form] if self._form else []
        form, name = self._form, given.get("name", "")
        if form is None:
            return
        if name and "required" in given:
            form.required.add(name)
        if tag == "input" and given.get("type") == "checkbox":
            form.boxes.add(name)
            form.values |= {name: given["value"]} if "checked" in given else {}
        elif tag == "input" and name:
            form.values[name] = given.get("value", "")
        elif tag == "select":
            self._select, form.choices[name] = name, []
        elif tag == "textarea":
            self._text, form.values[name] = name, ""
        elif tag == "button" and name:
            form.choices.setdefault(name, []).append(given["value"])
        elif tag == "option":
            self._option(form, given)

    def _option(self, form: Form, given: Mapping[str, str]) -> None:
        form.choices[self._select].append(given.get("value", ""))
        if "selected" in given:
            form.values[self._select] = given.get("value", "")
        form.values.setdefault(self._select, given.get("value", ""))
        self._is_bare = "value" not in given
        self._is_chosen = "selected" in given or len(form.choices[self._select]) == 1

    def handle_data(self, data: str) -> None:
        if self._form is None:
            return
        if self._text:
            self._form.values[self._text] += data
        elif self._select and self._is_bare and data.strip():
            self._form.choices[self._select][-1] = data.strip()
            if self._is_chosen:
                self._form.values[self._select] = data.strip()
            self._is_bare = False

    def handle_endtag(self, tag: str) -> None:
        if tag == "form":
            self._form = None
        elif tag == "textarea" and self._form is not None:
            self._form.values[self._text] = self._form.values[self._text].removeprefix("\n")
            self._text = ""
        elif tag == "select":
            self._select = ""


def forms_of(text: str, path: str) -> list[Form]:
    """The forms of a page that post, in their order. path: the page's, to which a form without an action posts."""
    return _Forms(text, path).found

"""The sandbox in which a checkpoint's template runs."""

from datetime import datetime

import pytest

from malmoi.core.errors import TemplateError
from malmoi.text import sandbox
from malmoi.text.template import Template


def run(source: str, **variables: object) -> str:
    return Template(source).run(variables)


@pytest.mark.parametrize(
    "source",
    [
        "{% include '/etc/hostname' %}",
        "{% import 'os' as os %}",
        "{{ ''.__class__.__mro__ }}",
        "{{ raise_exception.__globals__ }}",
        "{{ cycler.__init__.__globals__.os }}",
        "{{ '{0.__class__}'.format(1) }}",
        "{% do [].append(1) %}",
        "{{ messages.append(1) }}",
        "{{ lipsum() }}",
    ],
)
def test_a_template_reaches_nothing_but_its_data(source: str) -> None:
    try:
        leaked = run(source, messages=[])
    except TemplateError:
        leaked = ""
    assert leaked == ""


@pytest.mark.parametrize(
    "source", ["namespace(__class__=1)", "namespace({'_x': 1})", "namespace() %}{% set ns._x = 1"]
)
def test_a_namespace_holds_no_name_that_belongs_to_python(source: str) -> None:
    with pytest.raises(TemplateError, match="names that start with _ belong to Python"):
        run(f"{{% set ns = {source} %}}")


@pytest.mark.parametrize(
    "source",
    [
        "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
        "{% macro twice(n) %}{% if n %}{{ twice(n - 1) }}{{ twice(n - 1) }}{% endif %}{% endmacro %}{{ twice(60) }}",
    ],
)
def test_a_template_runs_until_a_deadline(source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "MAX_SECONDS", 0.05)
    with pytest.raises(TemplateError, match="runs for more than"):
        run(source)


@pytest.mark.parametrize(
    "source",
    [
        "{% for i in range(1000) %}{{ 'x' * 1000 }}{% endfor %}",
        "{{ ('x' * 300000) | length }}",
        "{{ ([1] * 300000) | length }}",
        "{{ 10 ** (10 ** 10) }}",
        "{% set ns = namespace(n=9) %}{% for i in range(30) %}{% set ns.n = ns.n * ns.n %}{% endfor %}",
        "{{ range(200000) | length }}",
        "{% macro again() %}{{ again() }}{% endmacro %}{{ again() }}",
    ],
)
def test_what_a_template_makes_has_a_limit(source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "MAX_CHARACTERS", 250_000)
    with pytest.raises(TemplateError, match="larger than|Range too big|recursion"):
        run(source)


def test_arithmetic_is_not_limited() -> None:
    assert (
        run("{{ 40000 * 40000 }} {{ 2 ** 10 }} {{ 2 ** 0.5 }} {{ 'ab' * 2 }}")
        == f"1600000000 1024 {2**0.5} abab"
    )


def test_json_is_written_as_it_is() -> None:
    assert run("{{ x | tojson }}", x={"글": "<b>'&'"}) == '{"글": "<b>\'&\'"}'
    assert run("{{ x | tojson(indent=1, ensure_ascii=true, sort_keys=true) }}", x={"b": "가", "a": 1}) == (
        '{\n "a": 1,\n "b": "\\uac00"\n}'
    )


def test_time_stands_still_while_a_template_runs() -> None:
    now = datetime(2026, 10, 9, 1, 2, 3)
    assert Template("{{ strftime_now('%Y-%m-%d') }}").run({}, now=now) == "2026-10-09"


def test_loops_can_be_left() -> None:
    leave = "{% if i == 1 %}{% continue %}{% elif i == 3 %}{% break %}{% endif %}"
    assert run(f"{{% for i in range(9) %}}{leave}{{{{ i }}}}{{% endfor %}}") == "02"


def test_generation_is_marked_where_asked_for() -> None:
    template = Template("a{% generation %}b{% endgeneration %}c")
    assert template.has_generation_tag
    assert template.run({}) == "abc"
    assert template.run({}, marks=("<", ">")) == "a<b>c"
    assert not Template("{# {% generation %} #}").has_generation_tag


def test_what_a_template_writes_and_looks_for_is_known() -> None:
    template = Template(
        "<s>{{ '[INST]' ~ x }}{% if '</think>' in x or x in ['a', 'b'] %}{{ x.split('/c') | join('d') }}{% endif %}"
    )
    assert {"<s>", "[INST]"} <= set(template.literals)
    assert template.searched == {"</think>", "a", "b", "/c", "d"}

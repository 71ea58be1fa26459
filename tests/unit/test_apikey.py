"""An API key is taken out of what was typed before anything else sees it, and no message repeats it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from xinfer import apikey, cli
from xinfer.errors import ConfigError

NONE: dict[str, Any] = {"api_key": None, "api_key_env": None}
TYPED: dict[str, Any] = {"api_key": "***", "api_key_env": None}
NAMED: dict[str, Any] = {"api_key": None, "api_key_env": "MY_KEY"}


@pytest.mark.parametrize(
    ("word", "kept", "key"),
    [
        pytest.param("api_key=sk-1", "api_key=***", "sk-1", id="typed"),
        pytest.param("api_key=a=b/c+d:e~_.==", "api_key=***", "a=b/c+d:e~_.==", id="with-signs"),
        pytest.param("++api_key=sk-1", "++api_key=***", "sk-1", id="forced"),
        pytest.param("+api_key=sk-1", "+api_key=***", "sk-1", id="added"),
        pytest.param("api_key=null", "api_key=null", None, id="none"),
        pytest.param("api_key_env=MY_KEY", "api_key_env=MY_KEY", None, id="a-variable"),
        pytest.param("engine.api_key_env=MY_KEY", "engine.api_key_env=MY_KEY", None, id="a-variable-of-an-engine"),
        pytest.param("model=api_key", "model=api_key", None, id="another-key"),
        pytest.param("engine.python=/api-key/python", "engine.python=/api-key/python", None, id="a-path"),
        pytest.param("~api_key", "~api_key", None, id="taken-away"),
    ],
)
def test_a_key_is_taken_out_of_an_override(word: str, kept: str, key: str | None) -> None:
    """What is kept says only that there is one."""
    assert apikey.take(word) == (kept, key)


@pytest.mark.parametrize(
    ("word", "said"),
    [
        pytest.param("api_key=", "api_key= is empty; leave it out", id="empty"),
        pytest.param("api_key=***", "api_key=*** stands for a key that was not kept", id="from-a-record"),
        pytest.param("api_key=SECRET SECRET", "api_key= has characters that a key cannot have", id="a-space"),
        pytest.param("api_key='SECRET'", "api_key= has characters", id="quotes"),
        pytest.param("api_key=SECRET,SECRET", "api_key= has characters", id="a-comma"),
        pytest.param("api_key=SECRET\n", "api_key= has characters", id="a-line-break"),
        pytest.param("api_key=${oc.env:SECRET}", "api_key= has characters", id="an-interpolation"),
        pytest.param("api_key=SECRÉT", "api_key= has characters", id="no-ascii"),
        pytest.param("engine.args.api-key=SECRET", "engine.args: a key would be printed", id="a-flag"),
        pytest.param("++engine.args.api_key=SECRET", "engine.args: a key would be printed", id="a-flag-forced"),
        pytest.param("engine.args={api-key: SECRET}", "engine.args: a key would be printed", id="a-mapping"),
        pytest.param("engine.env.VLLM_API_KEY=SECRET", "engine.env: a key would be printed", id="a-variable"),
    ],
)
def test_a_key_that_cannot_be_used_is_not_repeated(word: str, said: str) -> None:
    """The line says where it stood."""
    with pytest.raises(ConfigError) as caught:
        apikey.take(word)
    assert str(caught.value).startswith(said)
    assert "SECR" not in str(caught.value)


@given(st.text(alphabet=st.characters(min_codepoint=33, max_codepoint=126, exclude_characters=",\"'`\\"), min_size=4))
def test_a_key_of_visible_signs_is_taken_whole(key: str) -> None:
    """Whatever it is made of, the overrides do not have it."""
    assume("${" not in key)
    assume(key != "null")  # which says that there is none
    line = cli.parse(["serve", f"api_key={key}", "port=8000"])
    assert line == ("serve", ["api_key=***", "port=8000"], [], False, False, key, [])


def test_the_last_key_counts() -> None:
    """As with every other key; and a null takes it back."""
    assert cli.parse(["api_key=first-one", "api_key=second"]).api_key == "second"
    line = cli.parse(["api_key=first-one", "api_key=null"])
    assert line.overrides == ["api_key=***", "api_key=null"]
    assert apikey.find(NONE, line.api_key, {}) is None


@pytest.mark.parametrize(
    ("config", "said"),
    [
        pytest.param({"api_key": "SECRET"}, "api_key: a configuration is no place for a key", id="a-text"),
        pytest.param({"api_key": 0}, "api_key: a configuration is no place for a key", id="a-number-too"),
        pytest.param({"api_key_env": "sk-SECRET"}, "api_key_env: takes the name of an environment", id="no-name"),
        pytest.param({"api_key_env": ""}, "api_key_env: takes the name of an environment", id="no-name-at-all"),
        pytest.param({"api_key_env": 7}, "api_key_env: takes the name of an environment variable", id="a-number"),
        pytest.param({**TYPED, "api_key_env": "MY_KEY"}, "api_key= and api_key_env= both give a key", id="both"),
    ],
)
def test_a_configuration_with_a_key_in_it_is_refused(config: dict[str, Any], said: str) -> None:
    """Before it is printed or recorded, and without repeating it."""
    with pytest.raises(ConfigError) as caught:
        apikey.check(config)
    assert str(caught.value).startswith(said)
    assert "SECRET" not in str(caught.value)


@pytest.mark.parametrize(
    ("config", "variable"),
    [
        pytest.param({}, None, id="nothing"),
        pytest.param(NONE, None, id="no-key"),
        pytest.param(TYPED, "API_KEY", id="typed"),
        pytest.param(NAMED, "MY_KEY", id="a-variable"),
    ],
)
def test_an_example_takes_the_key_from_a_variable(config: dict[str, Any], variable: str | None) -> None:
    """The user's own, if it has one."""
    apikey.check(config)
    if config:
        assert apikey.variable(config) == variable


@pytest.mark.parametrize(
    ("config", "typed", "environ", "key"),
    [
        pytest.param(NONE, None, {"API_KEY": "other"}, None, id="no-key"),
        pytest.param(TYPED, "sk-1", {"API_KEY": "other"}, "sk-1", id="typed"),
        pytest.param(NAMED, None, {"MY_KEY": "sk-2\n"}, "sk-2", id="from-the-environment"),
    ],
)
def test_a_key_is_found(config: dict[str, Any], typed: str | None, environ: dict[str, str], key: str | None) -> None:
    """A line break at its end is not part of it: many a key comes out of a file."""
    assert apikey.find(config, typed, environ) == key


@pytest.mark.parametrize(
    ("name", "key", "found"),
    [
        pytest.param(None, None, None, id="no-key"),
        pytest.param(None, "sk-1", "sk-1", id="that-of-every-server"),
        pytest.param("MY_KEY", None, "sk-2", id="its-own"),
    ],
)
def test_somebody_elses_server_may_have_a_key_of_its_own(name: str | None, key: str | None, found: str | None) -> None:
    """It comes out of the environment as every key does."""
    assert apikey.of_another(name, key, {"MY_KEY": "sk-2\n"}) == found


@pytest.mark.parametrize(
    ("key", "environ", "said"),
    [
        pytest.param("sk-1", {"MY_KEY": "sk-2"}, "engine.api_key_env= and api_key= or api_key_env= both", id="both"),
        pytest.param(None, {}, "engine.api_key_env=MY_KEY: there is no such environment variable", id="not-there"),
        pytest.param(None, {"MY_KEY": ""}, "engine.api_key_env=MY_KEY: is empty; leave it out", id="empty"),
        pytest.param(
            None, {"MY_KEY": "SECRET\r\nX: y"}, "engine.api_key_env=MY_KEY: has characters", id="a-header-of-its-own"
        ),
    ],
)
def test_a_key_of_another_that_cannot_be_sent_is_refused(key: str | None, environ: dict[str, str], said: str) -> None:
    """It is not repeated."""
    with pytest.raises(ConfigError) as caught:
        apikey.of_another("MY_KEY", key, environ)
    assert str(caught.value).startswith(said)
    assert "SECRET" not in str(caught.value)


@pytest.mark.parametrize(
    ("config", "environ", "said"),
    [
        pytest.param(NAMED, {}, "api_key_env=MY_KEY: there is no such environment variable", id="not-there"),
        pytest.param(NAMED, {"MY_KEY": " "}, "api_key_env=MY_KEY: is empty; leave it out", id="empty"),
        pytest.param(NAMED, {"MY_KEY": "SECRET, SECRET"}, "api_key_env=MY_KEY: has characters", id="unusable"),
        pytest.param(TYPED, {}, "api_key=*** stands for a key that was not kept", id="lost"),
    ],
)
def test_a_key_that_is_not_there_is_an_error(config: dict[str, Any], environ: dict[str, str], said: str) -> None:
    """Never a server without one."""
    with pytest.raises(ConfigError) as caught:
        apikey.find(config, None, environ)
    assert str(caught.value).startswith(said)
    assert "SECRET" not in str(caught.value)


def test_a_key_is_hidden_wherever_it_stands() -> None:
    """However often; and a text without one stays as it is."""
    assert apikey.hidden("Bearer sk-1, not sk-1", "sk-1") == "Bearer ***, not ***"
    assert apikey.hidden("Bearer sk-1", None) == "Bearer sk-1"


@pytest.mark.parametrize(
    ("name", "is_meant"),
    [
        pytest.param("api-key", True, id="a-flag"),
        pytest.param("admin_api_key", True, id="another"),
        pytest.param("VLLM_API_KEY", True, id="a-variable"),
        pytest.param("cache-type-k", False, id="a-kind-of-cache"),
        pytest.param("ssl-keyfile", False, id="a-file"),
    ],
)
def test_a_setting_for_a_key_is_known_by_its_name(name: str, *, is_meant: bool) -> None:
    """Those of all engines are called so."""
    assert apikey.is_meant(name) is is_meant

"""Which service is meant, and how its key is kept."""

from __future__ import annotations

import json
import pickle
import stat
from pathlib import Path

import pytest

from edge.errors import BadInput
from service.client.login import (
    DEFAULT_URL,
    Secret,
    Service,
    base_url,
    config_file,
    find_service,
    is_loopback,
    keep,
)

KEY = "und_verysecretindeed"


def test_without_a_word_it_is_a_service_on_this_machine() -> None:
    assert find_service() == Service(DEFAULT_URL, None)


def test_the_last_login_is_meant_and_each_service_has_its_own_key() -> None:
    keep(Service("https://a.example", Secret("one")))
    keep(Service("https://b.example", Secret("two")))
    assert find_service().url == "https://b.example"
    for url, key in (("https://a.example", "one"), ("https://b.example/", "two")):
        found = find_service(url).key
        assert found is not None
        assert found.reveal() == key
    assert find_service("https://c.example").key is None


def test_the_environment_comes_before_what_was_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    keep(Service("https://a.example", Secret("one")))
    monkeypatch.setenv("UNDERSTUDY_KEY", "own")
    found = find_service()
    assert found.url == "https://a.example"
    assert found.key is not None
    assert found.key.reveal() == "own"


def test_the_key_of_the_environment_goes_to_no_other_service(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("UNDERSTUDY_URL", "https://a.example")
    monkeypatch.setenv("UNDERSTUDY_KEY", "own")
    assert find_service().key is not None
    assert find_service("https://a.example/").key is not None
    assert find_service("https://elsewhere.example").key is None


def test_nobody_else_may_read_the_file_of_keys(home: Path) -> None:
    path = keep(Service("https://a.example", Secret(KEY)))
    assert path == home / ".config" / "understudy" / "services.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    path.chmod(0o644)
    assert find_service().key is not None
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_the_configuration_folder_is_the_users_choice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "settings"))
    path = keep(Service("https://a.example", None))
    assert path == tmp_path / "settings" / "understudy" / "services.json"
    monkeypatch.setenv("XDG_CONFIG_HOME", "relative")  # does not count
    assert config_file().is_relative_to(Path.home())


def test_where_nothing_can_be_kept_the_environment_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "file"))
    with pytest.raises(BadInput, match="Set UNDERSTUDY_URL and UNDERSTUDY_KEY") as caught:
        keep(Service("https://a.example", Secret(KEY)))
    assert KEY not in str(caught.value)
    assert find_service() == Service(DEFAULT_URL, None)


@pytest.mark.parametrize("text", ["", "no json", "[]", '{"services": 3}', '{"services": {}}'])
def test_a_file_that_is_broken_is_none(text: str) -> None:
    config_file().parent.mkdir(parents=True)
    config_file().write_text(text)
    assert find_service() == Service(DEFAULT_URL, None)
    keep(Service("https://a.example", Secret("one")))
    assert json.loads(config_file().read_text())["current"] == "https://a.example"


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("https://A.example/", "https://a.example"),
        ("localhost:8700", "http://localhost:8700"),
        ("http://a.example/under/study/api/v1", "http://a.example/under/study"),
        ("http://[::1]:80", "http://[::1]:80"),
    ],
)
def test_a_url_has_one_spelling(given: str, meant: str) -> None:
    assert base_url(given) == meant


@pytest.mark.parametrize(
    "url",
    ["ftp://a", "http://", "http://a:b", "https://me:word@a.example", "http://a/?key=1", "://"],
)
def test_what_is_no_url_is_refused_without_repeating_a_password(url: str) -> None:
    with pytest.raises(BadInput, match="no service's URL") as caught:
        base_url(url)
    assert "word" not in str(caught.value.value) or "password" in str(caught.value.value)
    assert "me:word" not in str(caught.value)


def test_a_key_does_not_show_itself() -> None:
    secret = Secret(f" {KEY}\n")
    assert secret.reveal() == KEY
    for text in (repr(secret), str(secret), f"{secret}", repr(Service("https://a", secret))):
        assert KEY not in text
    with pytest.raises(TypeError):
        pickle.dumps(secret)


def test_a_key_with_letters_that_none_has_is_refused_and_not_told() -> None:
    with pytest.raises(BadInput, match="the key cannot be used") as caught:
        find_service("https://a.example", "schlüssel")
    assert "schl" not in str(caught.value)


def test_loopback() -> None:
    near = ("http://localhost:1", "http://127.0.0.2", "http://[::1]:8")
    assert all(map(is_loopback, near))
    assert not any(map(is_loopback, ("http://10.0.0.1", "https://localhost.example")))

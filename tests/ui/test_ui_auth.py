"""Passwords of those who may come in."""

import io
from pathlib import Path

import pytest

from shortcut_gen.errors import SettingsError
from tests.shared.front import JOIN, asks, front
from ui import auth
from ui.auth import Accounts, line_for
from ui.sessions import Sessions


@pytest.fixture(scope="module")
def passwords(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("auth") / "passwords"
    file.write_text(f"# who may play\n{line_for('clara', 'träumerei opus 15')}\n", encoding="utf-8")
    return file


def test_only_who_has_a_password_comes_in(sessions: Sessions, passwords: Path) -> None:
    app = front(sessions, accounts=Accounts.read(passwords))
    client = asks(app, "203.0.113.5")
    refused = client.get("/")
    assert refused.status_code == 401
    assert refused.headers["www-authenticate"].startswith("Basic realm=")
    assert client.get("/", auth=("clara", "träumerei opus 15")).status_code == 200
    assert client.post(JOIN, json={}, auth=("clara", "träumerei opus 15")).status_code == 200
    for wrong in (("clara", "no"), ("robert", "träumerei opus 15"), ("", ""), ("clara", "")):
        assert client.get("/", auth=wrong).status_code == 401
    for header in ("Basic", "Basic !!!", "Bearer abc", "Basic " + "A" * 9000):
        assert client.get("/", headers={"Authorization": header}).status_code == 401
    assert client.get("/healthz").status_code == 200  # what watches a server has no password


def test_passwords_cannot_be_tried_without_end(sessions: Sessions, passwords: Path) -> None:
    app = front(sessions, accounts=Accounts.read(passwords))
    client = asks(app, "203.0.113.5")
    assert client.get("/", auth=("clara", "träumerei opus 15")).status_code == 200
    tried = [client.get("/", auth=("clara", f"wrong {k}")).status_code for k in range(auth.FAILURES + 1)]
    assert tried == [401] * auth.FAILURES + [429]
    assert client.get("/", auth=("clara", "träumerei opus 15")).status_code == 200  # who was let in before stays
    assert asks(app, "203.0.113.6").get("/").status_code == 401


@pytest.mark.parametrize(
    "text", ["clara:secret-word", "clara", "", "clara:scrypt$00$00", "a b:" + line_for("c", "secret-word")[2:]]
)
def test_a_file_of_other_than_hashes_is_refused_without_a_word_of_it(tmp_path: Path, text: str) -> None:
    file = tmp_path / "passwords"
    file.write_text(text)
    with pytest.raises(SettingsError, match=r"python -m ui\.auth") as caught:
        Accounts.read(file)
    assert "secret-word" not in str(caught.value)
    with pytest.raises(SettingsError, match="cannot be read"):
        Accounts.read(tmp_path / "none")


def test_a_line_is_made_of_a_password_that_is_no_argument(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def made(password: str) -> int:
        monkeypatch.setattr("sys.argv", ["ui.auth", "clara"])
        monkeypatch.setattr("sys.stdin", io.StringIO(f"{password}\n"))
        return auth.main()

    assert made("a long enough one") == 0
    line = capsys.readouterr().out
    assert "a long enough one" not in line
    (tmp_path / "passwords").write_text(line)
    accounts = Accounts.read(tmp_path / "passwords")
    assert accounts.check("Basic Y2xhcmE6YSBsb25nIGVub3VnaCBvbmU=", "203.0.113.5") == "clara"
    assert made("short") == 2
    assert capsys.readouterr().err == "error: the password has 5 characters; 8 to 1,024 are needed\n"

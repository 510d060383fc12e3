import contextlib
import json
import os
import pty
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.audio.media import tone, write
from tests.support import random_bundle, random_denoising_bundle, speechlike
from whisfusion_jax.bundle import Bundle
from whisfusion_jax.cli import main
from whisfusion_jax.conversion.memory import add_memory


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> str:
    made = random_bundle(tmp_path_factory.mktemp("bundles") / "tiny")
    return str(add_memory(made, [speechlike(4)]).path)


@pytest.fixture
def clips(tmp_path: Path) -> list[str]:
    return [
        str(write(tmp_path / f"{name}.flac", "flac", tone(2, 16_000, frequency=f), 16_000))
        for name, f in (("low", 200), ("high", 900))
    ]


@pytest.fixture
def run(
    capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> object:
    """Run the command in this process: exit code, standard output, standard error."""
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "the tests' own")
    monkeypatch.setenv("COLUMNS", "200")

    def command(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as exit_:
            main(arguments)
        out, err = capfd.readouterr()
        code = exit_.value.code
        return code if isinstance(code, int) else 1, out, err

    return command


def test_text_to_standard_output_a_line_a_file(run, clips: list[str], bundle: str) -> None:
    code, out, err = run("transcribe", *clips, "--bundle", bundle)
    assert code == 0
    assert len(out.splitlines()) == 2
    assert "RTFx" in err
    assert "compiling" in err


def test_json_has_file_times_and_tokens(run, clips: list[str], bundle: str) -> None:
    code, out, _ = run("transcribe", *clips, "--bundle", bundle, "--format", "json")
    rows = [json.loads(line) for line in out.splitlines()]
    assert code == 0
    assert [row["file"] for row in rows] == clips
    assert rows[0]["seconds"] == 2
    assert rows[0]["segments"][0]["tokens"]


def test_all_formats_at_once(run, clips: list[str], bundle: str, tmp_path: Path) -> None:
    folder = tmp_path / "texts"
    code, _, _ = run(
        "transcribe", clips[0], "--bundle", bundle, "--format", "all", "--output-dir", str(folder)
    )
    assert code == 0
    text, srt, vtt, tsv, found = (
        (folder / f"low.{ending}").read_text() for ending in ("txt", "srt", "vtt", "tsv", "json")
    )
    assert srt.startswith("1\n00:00:0")
    assert vtt.startswith("WEBVTT")
    assert tsv.startswith("start\tend\ttext\n0\t")
    (segment,) = json.loads(found)["segments"]
    assert "".join(word["word"] for word in segment["words"]) == " " + text.strip()
    assert 0 == segment["words"][0]["start"] < segment["words"][-1]["end"] <= 2


def test_a_damaged_file_gets_a_warning_and_strictly_an_error(
    run, clips: list[str], bundle: str, tmp_path: Path
) -> None:
    cut = tmp_path / "cut.flac"
    cut.write_bytes(Path(clips[0]).read_bytes()[:-9000])
    code, out, err = run("transcribe", str(cut), "--bundle", bundle)
    assert code == 0
    assert len(out.splitlines()) == 1
    assert f"warning: {cut}: " in err
    assert "s of 2.0 s are there" in err
    code, out, err = run("transcribe", str(cut), "--bundle", bundle, "--strict")
    assert code == 2
    assert out == ""
    assert f"error: {cut}: " in err


def test_diffusion_from_the_command_line(
    run, clips: list[str], bundle: str, tmp_path: Path
) -> None:
    made = random_denoising_bundle(Bundle.open(bundle), tmp_path / "denoising")
    command = ("transcribe", clips[0], "--bundle", str(made.path), "--format", "json")
    code, out, err = run(*command, "--steps", "3", "--rule", "top_n", "--seed", "4")
    assert code == 0
    assert "3 steps" in err
    (segment,) = json.loads(out)["segments"]
    assert segment["steps"] == 3
    assert len(segment["confidences"]) == len(segment["fixed_at"]) == len(segment["tokens"])
    assert max(segment["fixed_at"]) <= 3
    code, _, err = run(*command, "--decoder", "ar")
    assert code == 2
    assert "has no pre-trained decoder" in err


def test_bad_files_are_named_and_the_rest_is_written(
    run, clips: list[str], bundle: str, tmp_path: Path
) -> None:
    (tmp_path / "empty.wav").touch()
    out_dir = tmp_path / "texts"
    files = [clips[0], str(tmp_path / "empty.wav"), "missing.mp3", clips[1]]
    code, out, err = run("transcribe", *files, "--bundle", bundle, "--output-dir", str(out_dir))
    assert code == 2
    assert out == ""
    assert sorted(path.name for path in out_dir.iterdir()) == ["high.txt", "low.txt"]
    errors = [line for line in err.splitlines() if line.startswith("error:")]
    assert errors == [
        f"error: {tmp_path}/empty.wav: the file is empty",
        "error: missing.mp3: no such file",
    ]


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ([], "no FILE given"),
        (["a/x.wav", "b/x.mp3", "--output-dir", "out"], "would both be written to out/x.*"),
        (["a.wav", "--bundle", "nowhere"], "nowhere: no bundle directory, and no published"),
        (["a.wav", "--beams", "0"], "at least 1"),
        (["a.wav", "--steps", "0"], "0 steps: at least 1"),
        (["a.wav", "--batch-seconds", "0"], "batches of 0 s"),
        (["a.wav", "--decoder", "diffusion"], "has no denoiser"),
        (["a.wav", "--language", "de"], "English only"),
        (["a.wav", "--threads", "0"], "0 threads: from 1 to"),
        (["a.wav", "--task", "translate"], "knows English only: it translates nothing"),
        (["a.wav", "--format", "doc"], "format 'doc' is unknown; known are: txt, srt, vtt, tsv"),
        (["a.wav", "--format", "srt,vtt"], "several formats need --output-dir"),
        (["a.wav", "--max-line-width", "0"], "at least 1"),
    ],
)
def test_wrong_calls_get_one_line(
    arguments: list[str], reason: str, run, bundle: str, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    if "--bundle" not in arguments:
        arguments = [*arguments, "--bundle", bundle]
    code, out, err = run("transcribe", *arguments)
    assert code == 2
    assert out == ""
    assert reason in err
    assert "Traceback" not in err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", [[], ["transcribe"], ["get"], ["memory"]])
def test_help_explains(command: list[str], run) -> None:
    code, out, _ = run(*command, "--help")
    assert code == 0
    assert "usage: whisfusion" in out
    assert "Write what is said" in out or command not in ([], ["transcribe"])


def test_an_unknown_flag_is_named(run) -> None:
    code, out, err = run("transcribe", "a.wav", "--bundel", "x")
    assert code == 2
    assert "--bundel" in out + err


def test_memory_is_made_from_files(run, clips: list[str], tmp_path: Path) -> None:
    made = random_bundle(tmp_path / "plain")
    code, _, err = run("memory", str(made.path), *clips, "--pool", "50")
    assert code == 0
    assert "padding memory from 2 recordings" in err
    memory = Bundle.open(made.path).load_memory()
    assert memory is not None
    assert memory.config.pool == 50


def test_runs_as_a_module(bundle: str, clips: list[str]) -> None:
    command = [sys.executable, "-m", "whisfusion_jax", "transcribe", clips[0], "--bundle", bundle]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, "COLUMNS": "100"}
    )
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 1


@pytest.mark.parametrize(
    ("file", "content", "reason"),
    [("0.0", b"torn", "damaged ("), (".zarray", None, "no Orbax checkpoint")],
)
def test_damaged_weights_are_named_in_one_line(
    file: str, content: bytes | None, reason: str, bundle: str, clips: list[str], tmp_path: Path
) -> None:
    """In a process of its own: Orbax leaves reads unfinished that complain at its end."""
    shutil.copytree(bundle, tmp_path / "damaged")
    params = tmp_path / "damaged" / "encoder"
    damaged = params / "blocks.0.mlp.up.kernel" / file
    if content is None:
        damaged.unlink()
    else:
        damaged.write_bytes(content)
    command = [sys.executable, "-m", "whisfusion_jax", "transcribe", clips[0]]
    done = subprocess.run(
        [*command, "--bundle", str(params.parent)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"error: {params}: {reason}")


def test_watch_shows_each_step(run, clips: list[str], bundle: str) -> None:
    code, out, _ = run("watch", clips[0], "--bundle", bundle)
    _, text, _ = run("transcribe", clips[0], "--bundle", bundle)
    assert code == 0
    assert len(out.splitlines()) > 1
    assert out.splitlines()[-1].strip() == text.strip()
    code, _, said = run("watch", "nosuch.wav", "--bundle", bundle)
    assert code == 2
    assert "nosuch.wav: no such file" in said


def test_text_goes_where_standard_output_goes_beside_a_bar(
    clips: list[str], bundle: str, tmp_path: Path
) -> None:
    """With a terminal as standard error alone, whose bar must not swallow the text."""
    command = [sys.executable, "-c", "from whisfusion_jax.cli import main; main()", "transcribe"]
    text = tmp_path / "text.txt"
    ours, its = pty.openpty()
    with text.open("w") as file:
        process = subprocess.Popen([*command, *clips, "--bundle", bundle], stdout=file, stderr=its)
    os.close(its)
    shown = b""
    with contextlib.suppress(OSError):  # how a terminal says that its other end is closed
        while part := os.read(ours, 4096):
            shown += part
    os.close(ours)
    assert process.wait() == 0
    assert b"transcribing 2 of 2" in shown
    assert b"0:00:0" in shown
    assert len(text.read_text().splitlines()) == len(clips)

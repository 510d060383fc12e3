"""NeMo's archives: what is read of them, and what is refused."""

import io
import tarfile
from pathlib import Path

import pytest
import yaml

from whisfusion_jax.config import FastConformerConfig
from whisfusion_jax.conversion.nemo import NemoArchive, encoder_config
from whisfusion_jax.errors import ConversionError

ENCODER = {
    "_target_": "nemo.collections.asr.modules.ConformerEncoder",
    "feat_in": 128,
    "feat_out": -1,
    "n_layers": 17,
    "d_model": 512,
    "use_bias": False,
    "subsampling": "dw_striding",
    "subsampling_factor": 8,
    "subsampling_conv_channels": 256,
    "causal_downsampling": False,
    "reduction": None,
    "ff_expansion_factor": 4,
    "self_attention_model": "rel_pos",
    "n_heads": 8,
    "att_context_size": [-1, -1],
    "att_context_style": "regular",
    "xscaling": False,
    "untie_biases": True,
    "pos_emb_max_len": 5000,
    "conv_kernel_size": 9,
    "conv_norm_type": "batch_norm",
    "conv_context_size": None,
    "dropout": 0.1,
    "dropout_pre_encoder": 0.1,
    "stochastic_depth_drop_prob": 0.0,
}
"""As canary-180m-flash's archive has it."""

HERE = Path("model.nemo")


def archive(path: Path, files: dict[str, bytes], compressed: bool = False) -> Path:
    with tarfile.open(path, "w:gz" if compressed else "w") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


def test_an_encoders_settings_become_ours() -> None:
    config, passed = encoder_config({"encoder": ENCODER}, HERE)
    assert config == FastConformerConfig(
        mel_bins=128, width=512, heads=8, layers=17, hidden=2048, channels=256, taps=9, bias=False
    )
    assert passed == []


def test_settings_of_streaming_are_named_and_passed_over() -> None:
    _, passed = encoder_config({"encoder": ENCODER | {"att_context_probs": None}}, HERE)
    assert passed == ["att_context_probs"]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("subsampling", "vggnet"),
        ("self_attention_model", "rel_pos_local_attn"),
        ("att_context_size", [70, 13]),
        ("causal_downsampling", True),
        ("conv_norm_type", "layer_norm"),
        ("conv_context_size", "causal"),
    ],
)
def test_another_kind_of_encoder_is_refused_by_name(key: str, value: object) -> None:
    with pytest.raises(ConversionError, match=rf"model\.nemo: encoder\.{key} is "):
        encoder_config({"encoder": ENCODER | {key: value}}, HERE)


def test_missing_sizes_are_named() -> None:
    encoder = {key: value for key, value in ENCODER.items() if key not in {"d_model", "n_heads"}}
    with pytest.raises(ConversionError, match="lack d_model, n_heads"):
        encoder_config({"encoder": encoder}, HERE)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"model_weights.ckpt": b""}, "has no model_config.yaml"),
        ({"model_config.yaml": b"encoder: {}"}, "has no model_weights.ckpt"),
        ({"model_config.yaml": b"{", "model_weights.ckpt": b""}, "is no YAML"),
        ({"model_config.yaml": b"- 1", "model_weights.ckpt": b""}, "holds no settings"),
        ({"../model_config.yaml": b"encoder: {}"}, "no plain file of the archive's own"),
        ({"/etc/model_config.yaml": b"encoder: {}"}, "no plain file of the archive's own"),
    ],
)
@pytest.mark.parametrize("compressed", [False, True])
def test_what_is_no_archive_is_refused(
    files: dict[str, bytes], message: str, compressed: bool, tmp_path: Path
) -> None:
    with pytest.raises(ConversionError, match=message):
        NemoArchive(archive(tmp_path / "model.nemo", files, compressed))


def test_a_link_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.nemo"
    with tarfile.open(path, "w") as tar:
        link = tarfile.TarInfo("model_weights.ckpt")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    with pytest.raises(ConversionError, match="no plain file"):
        NemoArchive(path)


@pytest.mark.parametrize("content", [b"", b"no tar at all" * 100])
def test_damaged_files_are_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "model.nemo"
    path.write_bytes(content)
    with pytest.raises(ConversionError, match="not readable as a NeMo archive"):
        NemoArchive(path)


def test_cut_archives_are_refused(tmp_path: Path) -> None:
    files = {"model_config.yaml": yaml.safe_dump({"encoder": ENCODER}).encode() * 50}
    path = archive(tmp_path / "model.nemo", files | {"model_weights.ckpt": b"x" * 50_000})
    path.write_bytes(path.read_bytes()[:30_000])
    with pytest.raises(ConversionError, match=r"model\.nemo"):
        NemoArchive(path)

"""A study's folder: what is taken for one, what of it is deleted, and where it may lie. Real files, real commands."""

import os
import shutil
import stat
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from search import Study
from search.errors import InputError
from search.records import StoredStudy, StudyFolder, open_storage
from search.run import main
from search.spec import StudySpec, appraise, find, load
from search.storage import Output, Remote
from tests.support.fixtures import alone, refusal, run_here  # noqa: F401
from tests.support.mirrored import INFO
from tests.support.object_store import object_store

pytestmark = pytest.mark.usefixtures("alone")

SPEC = StudySpec(name="tiny", space={"net.depth": [8, 14]}, train={"epochs": 1})
EPOCH = "0000/epoch-000001"


def files(folder: Path) -> dict[str, bytes]:
    """All that is in a folder, links not followed."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def begun(output: Output, spec: StudySpec = SPEC) -> StudyFolder:
    """A study with one finished trial, of which everything is there that a study has; left."""
    folder = StudyFolder.enter(output, spec.name)
    folder.settle(spec)
    space = spec.make_space((8, 8, 1), 10)
    storage = open_storage(folder.journal, spec.search.storage, folder.forced)
    owner = folder.owner(spec.search.storage is not None)
    ledger = StoredStudy(storage, spec.name).open(owner, spec, space, INFO, lambda t: appraise(t, (8, 8), spec.limits))
    folder.bind(ledger.key, begun=bool(ledger.records))
    if not ledger.records:
        assert ledger.add({**space.fixed, "net.depth": 8}) is not None
    for name in (f"trials/{EPOCH}", "finals/0001/epoch-000003.damaged"):
        (folder.path / name).mkdir(parents=True, exist_ok=True)
        (folder.path / name / "model.safetensors").write_bytes(b"weights")
    for name in ("mlflow.json", "report.json", "report.html", "champion/config.json"):
        (folder.path / name).parent.mkdir(exist_ok=True)
        (folder.path / name).write_bytes(b"made by the service")
    folder.leave()
    return folder


def users() -> Path:
    """A folder of a user's own, with names that a study's folder has too."""
    for name in ("thesis.tex", "trials/patient.csv", "report/figure.png", "photos/cat.jpg"):
        path = Path("stuff") / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return Path("stuff")


def test_a_folder_of_somebody_else_stays_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    before = files(users())
    for flags in ([], ["--fresh"], ["--fresh", "--yes"]):
        sentence = refusal(["--name", "stuff", "--output", ".", *flags], capsys)
        assert "name = 'stuff'" in sentence
        assert "is not the folder of a study" in sentence
        assert "use another --name" in sentence
        assert files(Path("stuff")) == before


def test_what_is_not_the_studys_is_kept_and_named(tmp_path: Path) -> None:
    folder = begun(Output("results"))
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "model.safetensors").write_text("of another study")
    mine = {
        "notes.txt": b"1",
        "trials/patient.csv": b"2",
        "trials/0000/notes.md": b"3",
        "champion/labels.txt": b"5",
        "photos/a/cat.jpg": b"6",
    }
    for name, data in mine.items():
        (folder.path / name).parent.mkdir(parents=True, exist_ok=True)
        (folder.path / name).write_bytes(data)
    (folder.path / "trials" / "0007").symlink_to(tmp_path / "elsewhere")
    (folder.path / "photos" / "link").symlink_to(tmp_path / "elsewhere")
    again = StudyFolder.enter(Output("results"), "tiny")
    stays = again.clear()
    again.forget()
    again.leave()
    left = files(folder.path)
    own = {".lock", ".holder", "study.id"}
    assert {name: data for name, data in left.items() if name not in own} == mine
    named = {str(folder.path / name) for name in mine if "photos" not in name} | {str(folder.path / "photos")}
    assert set(stays) == named | {str(tmp_path / "elsewhere")}
    assert files(tmp_path / "elsewhere") == {"model.safetensors": b"of another study"}
    assert (folder.path / "photos" / "link").is_symlink()
    assert not (folder.path / "trials" / "0007").is_symlink()
    assert not (folder.path / "finals").exists()
    begun(Output("results"))  # and a study can begin there again


def test_nothing_is_deleted_before_all_is_checked(capsys: pytest.CaptureFixture[str]) -> None:
    """The study was tracked on the server that is away: it would go on without, but cannot begin again."""
    begun(Output("results"))
    away = "http://127.0.0.1:9"
    Path("results/tiny/mlflow.json").write_text(f'{{"store": "{away} resnet-search"}}')
    before = files(Path("results"))
    bad = "nobody+nothing://storage"
    for flags, words in (
        (["--tracking-uri", away], "does not answer"),
        (["--tracking-uri", "ftp://x"], "is not an address"),
        (["--storage", bad], "cannot be opened"),
        (["--set", "data.name=npz:none.npz"], "none.npz"),
        (["--cpus-per-trial", "9999"], "resources.cpus_per_trial"),
    ):
        Path("tiny.yaml").write_text(SPEC.to_yaml())
        assert words in refusal(["tiny.yaml", "--fresh", "--yes", *flags], capsys)
        after = files(Path("results"))
        assert {k: v for k, v in after.items() if not k.endswith(".holder")} == {
            k: v for k, v in before.items() if not k.endswith(".holder")
        }


def test_a_storage_with_a_study_of_another_folder_is_told_before_anything_is_deleted(
    capsys: pytest.CaptureFixture[str],
) -> None:
    shared = SPEC.model_copy(update={"search": SPEC.search.model_copy(update={"storage": "sqlite:///shared.db"})})
    begun(Output("theirs"), shared)
    begun(Output("results"))
    before = files(Path("results/tiny")).keys()
    Path("tiny.yaml").write_text(shared.to_yaml())
    sentence = refusal(["tiny.yaml", "--fresh", "--yes"], capsys)
    assert f"belongs to {Path('theirs/tiny').absolute()}" in sentence
    assert files(Path("results/tiny")).keys() == before


def moved_by(how: str) -> Output:
    """Another spelling of `results`, or another place of it."""
    if how == "..":
        Path("sub").mkdir()
        return Output("sub/../results")
    if how == "link":
        Path("link").symlink_to("results")
        return Output("link")
    Path("elsewhere").mkdir()
    Path("results").rename("elsewhere/studies")
    return Output("elsewhere/studies")


@pytest.mark.parametrize("storage", [None, "sqlite:///shared.db"])
@pytest.mark.parametrize("how", ["..", "link", "moved"])
def test_a_folder_is_its_own_identity(how: str, storage: str | None, capsys: pytest.CaptureFixture[str]) -> None:
    spec = SPEC.model_copy(update={"search": SPEC.search.model_copy(update={"storage": storage})})
    first = begun(Output("results"), spec)
    output = moved_by(how)
    again = begun(output, spec)
    assert again.id == first.id
    Path("tiny.yaml").write_text(spec.to_yaml())
    assert "with 0 finished trials" in refusal(["tiny.yaml", "--output", str(output), "--fresh"], capsys)


def test_a_renamed_folder_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    begun(Output("results"), load(find("digits")).model_copy(update={"name": "tiny"}))
    Path("results/tiny").rename("results/other")
    sentence = refusal(["--name", "other"], capsys)
    assert "is of the study 'tiny'" in sentence


def test_checkpoints_on_another_disk(tmp_path: Path) -> None:
    """The link is made before the study; the study goes on behind it, and --fresh empties what is behind."""
    large = tmp_path / "large"
    large.mkdir()
    (large / "of-another.txt").write_text("x")
    Path("results/tiny").mkdir(parents=True)
    Path("results/tiny/trials").symlink_to(large)
    folder = begun(Output("results"))
    assert (large / EPOCH / "model.safetensors").read_bytes() == b"weights"
    again = begun(Output("results"))
    stays = again.clear()
    assert stays == [str(folder.path / "trials" / "of-another.txt")]
    assert files(large) == {"of-another.txt": b"x"}
    assert (folder.path / "trials").is_symlink()
    (large / EPOCH).mkdir(parents=True)
    (folder.path / "key").unlink(missing_ok=True)
    with pytest.raises(InputError, match="holds trials of a study that its storage has lost"):
        begun(Output("results"))
    shutil.rmtree(large)
    with pytest.raises(InputError, match=r"results/tiny/trials is no folder, nor a link to one; mount or make"):
        StudyFolder.enter(Output("results"), "tiny")


@pytest.mark.parametrize("damage", [b"", b"\xff\xfe\x00", b"[]", b"5"])
def test_a_damaged_key_and_id_are_made_again(damage: bytes) -> None:
    folder = begun(Output("results"))
    key = (folder.path / "key").read_bytes()
    (folder.path / "key").write_bytes(damage)
    (folder.path / "study.id").write_bytes(damage)
    again = begun(Output("results"))
    assert (again.path / "key").read_bytes() == key
    assert len(again.id) == 32
    (folder.path / "key").write_bytes(damage)
    folder.journal.unlink()
    with pytest.raises(InputError, match="holds trials of a study that its storage has lost"):
        begun(Output("results"))


def test_a_study_of_an_older_version_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """By who runs it and by who reads it; `--fresh` knows its files, and deletes them."""
    folder = begun(Output("results"))
    folder.journal.unlink()
    for name in ("outbox.jsonl", "outbox.cursor.json"):
        (folder.path / name).write_text("{}\n")
    Path("tiny.yaml").write_text(SPEC.to_yaml())
    sentence = refusal(["tiny.yaml"], capsys)
    assert sentence.rstrip().endswith(
        "results/tiny holds a study of an older version, which this one cannot continue; use another --name, or begin "
        "it again with --fresh"
    ), sentence
    with pytest.raises(InputError, match="results/tiny holds a study of an older version"):
        Study.open("results/tiny")
    again = StudyFolder.enter(Output("results"), "tiny")
    assert again.clear() == []
    again.leave()
    assert not list(folder.path.glob("outbox*"))


@pytest.mark.parametrize(
    "name",
    ["mlflow.db", "mlartifacts", "MLflow.db", "MLARTIFACTS", "mlflow.db-wal", "mlflow.db-journal", "mlflow.db.damaged"],
)
def test_names_that_the_output_folder_uses(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    sentence = refusal(["--name", name], capsys)
    assert f"name = '{name}'" in sentence
    assert "use another name" in sentence
    assert not Path("results").exists()


def pictures(root: str) -> None:
    for split in ("train", "test"):
        for kind in ("a", "b"):
            place = Path(root) / split / kind
            place.mkdir(parents=True)
            for k in range(20):
                Image.fromarray(np.full((8, 8, 3), 12 * k, np.uint8)).save(place / f"{k}.png")


@pytest.mark.parametrize(
    ("name", "output", "images"),
    [
        ("photos", ".", "photos"),
        ("mine", "photos", "photos"),
        ("mine", "photos/train/a", "photos"),
        ("mine", "link", "photos"),
        ("studies", ".", "studies/photos"),
    ],
)
def test_a_study_among_the_images(name: str, output: str, images: str, capsys: pytest.CaptureFixture[str]) -> None:
    pictures(images)
    Path("link").symlink_to("photos")
    before = files(Path(images))
    given = ["--data", images, "--name", name, "--output", output]
    sentence = refusal([*given, "--fresh", "--yes"], capsys)
    assert f"data.name = 'imagefolder:{images}'" in sentence
    assert "overlap; choose another --output" in sentence
    assert files(Path(images)) == before


def test_images_beside_the_studies_are_fine(capsys: pytest.CaptureFixture[str]) -> None:
    pictures("photos")
    small = ("data.name=imagefolder:photos", "data.image_size=32", "train.batch_size=16")
    given = ["small-images", *(f"--set={one}" for one in small), "--output", "."]
    assert main([*given, "--dry-run"]) == 0, capsys.readouterr().err


def test_folders_are_for_their_owner_alone() -> None:
    before = os.umask(0o022)
    try:
        folder = begun(Output("new/results"))
        Path("shared").mkdir(mode=0o755)
        other = begun(Output("shared"))
    finally:
        os.umask(before)

    def mode(path: Path) -> int:
        return stat.S_IMODE(path.stat().st_mode)

    assert (mode(folder.path.parent), mode(folder.path)) == (0o700, 0o700)
    assert (mode(other.path.parent), mode(other.path)) == (0o755, 0o700)


def test_at_a_url(tmp_path_factory: pytest.TempPathFactory) -> None:
    """What is not the study's is neither taken for a record of it nor deleted, and elsewhere none begins."""
    with object_store(tmp_path_factory.mktemp("store")) as store:
        output, place = Output(f"{store}/studies"), Remote(f"{store}/studies/tiny")
        begun(output)
        mine = {"notes.txt": b"1", "photos/cat.jpg": b"2", "trials/patient.csv": b"3"}
        own = {f"trials/{EPOCH}-0a1b2c3d/model.safetensors": b"w", "finals/0001/epoch-000001-0a1b2c3d/state.json": b"s"}
        for name, data in (mine | own).items():
            place.put(name, data)
        again = begun(output)
        assert stat.S_IMODE(again.path.stat().st_mode) == 0o700, "the copy of its records on this machine"
        assert {name: place.get(name) for name in mine | own} == mine | own, "a start deletes nothing"
        assert set(again.clear()) == {str(again.path / n) for n in ()} | {f"{place.url}/{name}" for name in mine}
        assert set(place.files()) == mine.keys() | {"study.yaml", "study.id"}
        theirs = Remote(f"{store}/studies/stuff")
        for name, data in mine.items():
            theirs.put(name, data)
        with pytest.raises(InputError, match=r"s3://studies/studies/stuff is not the folder of a study"):
            begun(output, SPEC.model_copy(update={"name": "stuff"}))
        assert {name: theirs.get(name) for name in theirs.files()} == mine

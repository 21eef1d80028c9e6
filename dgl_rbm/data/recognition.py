"""Recognition of files and folders that are not the dataset that was expected, by their content.

Nothing is executed: pickled files are searched for the names of packages and never loaded.
"""

from __future__ import annotations

import csv
import difflib
import re
import shlex
import zipfile
from collections.abc import Iterator
from pathlib import Path

from dgl_rbm.errors import DataError, DatasetNotFoundError

__all__ = ["GRAPH_MAGIC", "missing", "recognize", "unusable", "without_description"]

# First bytes of the files of `dgl.save_graphs`.
GRAPH_MAGIC = bytes.fromhex("3fa1b446f04f2edd")

_READ = 65_536
_MOST_LINES = 20

_IN_PYTHON = "Read it in Python and pass the arrays: `dgl_rbm.from_arrays(edges, features, labels, split='20/30')`."
_NETWORKX = "`dgl_rbm.from_networkx({call}, features=..., label=...)` makes a task of it."
_ARRAYS_OF = "Read it with `{call}` and pass the arrays: `dgl_rbm.from_arrays(edges, features, labels, ...)`."

# First bytes, what the file is, and the way in; `{path}` is the path as a Python literal.
_MAGIC: tuple[tuple[bytes, str, str], ...] = (
    (b"MATLAB 7.3", "a MATLAB file of version 7.3 (HDF5)", _ARRAYS_OF.format(call="h5py.File({path})")),
    (b"MATLAB 5", "a MATLAB file", _ARRAYS_OF.format(call="scipy.io.loadmat({path})")),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file", _ARRAYS_OF.format(call="h5py.File({path})")),
    (
        b"PAR1",
        "a Parquet table",
        "A graph needs a table of edges and one of nodes: `dgl_rbm.from_csv(edges, nodes, label=..., features=...)`.",
    ),
    (b"ARROW1", "an Arrow (Feather) table", "Read it with `pandas.read_feather({path})`; use `dgl_rbm.from_pandas`."),
    (b"FEA1", "a Feather table", "Read it with `pandas.read_feather({path})` and use `dgl_rbm.from_pandas`."),
    (
        b"\x93NUMPY",
        "a single NumPy array",
        "Edges, features and labels are needed: `dgl_rbm.from_arrays(edges, features, labels, split='20/30')`.",
    ),
    (b"SQLite format 3\0", "an SQLite database", "Read it with `pandas.read_sql` and use `dgl_rbm.from_pandas`."),
    (b"\x1f\x8b", "compressed with gzip", "Decompress it first: `gzip --decompress --keep {shell}`."),
    (b"BZh", "compressed with bzip2", "Decompress it first: `bzip2 --decompress --keep {shell}`."),
    (b"\xfd7zXZ\0", "compressed with xz", "Decompress it first: `xz --decompress --keep {shell}`."),
    (b"\x28\xb5\x2f\xfd", "compressed with Zstandard", "Decompress it first: `zstd --decompress --keep {shell}`."),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive", "Unpack it first, and give the path of the graph inside."),
    (
        b"\xd0\xcf\x11\xe0",
        "an Excel workbook (.xls)",
        "Read it with `pandas.read_excel` and use `dgl_rbm.from_pandas`.",
    ),
    (b"%PDF", "a PDF document", "Give the path of a graph."),
    (b"\x89PNG", "an image", "Give the path of a graph."),
    (b"\xff\xd8\xff", "an image", "Give the path of a graph."),
)

# Package in a pickled file, what the object is, and the way in.
_PICKLED: tuple[tuple[bytes, str, str], ...] = (
    (b"torch_geometric", "a PyG object", "If you trust the file, `dgl_rbm.from_pyg(torch.load({path}, "
     "weights_only=False), ...)` makes a task of it."),
    (b"networkx", "a networkx graph", "If you trust the file, load it with `pickle` and pass the graph: "
     "`dgl_rbm.from_networkx(graph, features=..., label=...)`."),
    (b"DGLGraph", "a DGL graph", "If you trust the file, load it with `pickle` and pass the graph to "
     "`dgl_rbm.task_from_graph`."),
    (b"dgl.", "a DGL graph", "If you trust the file, load it with `pickle` and pass the graph to "
     "`dgl_rbm.task_from_graph`."),
    (b"scipy.sparse", "a SciPy matrix", "If you trust the file, load it with `pickle` and pass the matrix: "
     "`dgl_rbm.from_scipy(adjacency, features, labels, ...)`."),
    (b"pandas", "a pandas table", "If you trust the file, read it with `pandas.read_pickle({path})` and use "
     "`dgl_rbm.from_pandas`."),
)  # fmt: skip

_RUN_FILES = ("metrics.json", "student.safetensors", "manifest.json")


def unusable(path: Path, expected: str, *, found: str | None = None) -> DataError:
    """Return the error for an existing file or folder that is not what was `expected`.

    Parameters
    ----------
    path : Path
        An existing file or folder.
    expected : str
        What the path should be: ``"a graph saved by `dgl.save_graphs`"``.
    found : str, optional
        What is wrong with a file that has the expected format.
    """
    what, hint = recognize(path)
    if found is not None and path.is_file() and what is None:
        return DataError(f"The file '{path}' {found}", hint=hint)
    kind = "folder" if path.is_dir() else "file"
    return DataError(f"The {kind} '{path}' is {what or 'of an unknown format'}; expected {expected}.", hint=hint)


def missing(path: Path, what: str) -> DatasetNotFoundError:
    """Return the error for a path that does not exist, with the nearest name beside it as a hint."""
    try:
        names = sorted(entry.name for entry in path.parent.iterdir()) if path.parent.is_dir() else None
    except OSError:
        names = []
    if names is None:
        hint = f"There is no folder '{path.parent}' either."
    else:
        near = difflib.get_close_matches(path.name, names, n=1)
        hint = (
            f"Did you mean '{path.parent / near[0]}'?" if near else f"No name in '{path.parent.absolute()}' is similar."
        )
    return DatasetNotFoundError(f"There is no {what} '{path}'.", hint=hint)


def without_description(path: Path) -> DatasetNotFoundError:
    """Return the error for a folder of a dataset that is missing or has no ``meta.yaml``; names what it is."""
    if not path.exists():
        return missing(path, "folder")
    what, hint = recognize(path)
    return DatasetNotFoundError(f"There is no 'meta.yaml' in '{path}', which is {what or 'a file'}.", hint=hint)


def recognize(path: Path) -> tuple[str | None, str]:
    """Return what a file or folder is, by its content, and how its graph becomes a dataset.

    The first part is None for a file of `dgl.save_graphs` and for unknown content.
    """
    what: str | None
    if path.is_dir():
        what, hint = _folder(path)
    else:
        try:
            with path.open("rb") as file:
                start = file.read(_READ)
        except OSError as error:
            return f"unreadable ({error.strerror})", "Check its permissions."
        what, hint = _file(path, start)
    return what, hint.replace("{path}", repr(str(path))).replace("{shell}", shlex.quote(str(path)))


def _file(path: Path, start: bytes) -> tuple[str | None, str]:
    if not start:
        return "empty", "Download or write it again; the process that wrote it may have been stopped."
    if start.startswith(GRAPH_MAGIC):
        return None, "Write it again with `dgl.save_graphs`; the process that wrote it may have been stopped."
    for magic, what, hint in _MAGIC:
        if start.startswith(magic):
            return what, hint
    if start.startswith(b"PK"):
        return _archive(path)
    if re.match(rb"\x80[\x02-\x05]", start) or (start[:1] in b"(c" and re.search(rb"\nc?[\w.]+\n", start[:200])):
        return _pickled(start, "a pickle file")
    if len(start) > 262 and start[257:262] == b"ustar":
        return "a tar archive", "Unpack it first, and give the path of the graph inside."
    if len(start) > 9 and int.from_bytes(start[:8], "little") < 2**32 and start[8:9] == b"{":
        return "a safetensors file", _ARRAYS_OF.format(call="safetensors.numpy.load_file({path})")
    if _is_text(start):
        return _text(start.decode("utf-8-sig", "replace"))
    return None, "`dgl.save_graphs` writes a graph to a file. " + _IN_PYTHON


def _archive(path: Path) -> tuple[str, str]:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            pickled = next((name for name in names if name.endswith("/data.pkl")), None)
            if pickled is not None:
                with archive.open(pickled) as file:
                    return _pickled(file.read(_READ), "a file of `torch.save`")
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, RuntimeError, EOFError):
        return "a damaged zip archive", "Download or write it again; it may have been cut off."
    if "xl/workbook.xml" in names:
        return "an Excel workbook", "Read it with `pandas.read_excel({path})` and use `dgl_rbm.from_pandas`."
    if names and all(name.endswith(".npy") for name in names):
        return _numpy_archive([name[: -len(".npy")] for name in names])
    return "a zip archive", "Unpack it first, and give the path of the graph inside."


def _numpy_archive(names: list[str]) -> tuple[str, str]:
    if {"format", "shape", "data"} <= set(names):
        return (
            "a single SciPy sparse matrix",
            "`dgl_rbm.from_scipy(scipy.sparse.load_npz({path}), features, labels, ...)` makes a task of an adjacency.",
        )
    shown = ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
    return (
        f"a NumPy archive of the arrays {shown}" if names else "an empty NumPy archive",
        "With the arrays of a known layout it is the dataset 'npz', by a path that ends in .npz. Others are passed in "
        "Python: "
        "`dgl_rbm.from_arrays(edges, features, labels, ...)`.",
    )


def _pickled(content: bytes, container: str) -> tuple[str, str]:
    for name, what, hint in _PICKLED:
        if name in content:
            return f"{container} with {what}", hint + " Pickled files can run any code when they are loaded."
    return container, "If you trust the file, load it in Python; pickled files can run any code. " + _IN_PYTHON


def _is_text(start: bytes) -> bool:
    try:
        start.decode("utf-8")
    except UnicodeDecodeError as error:
        # The last character may be cut off at the end of what was read.
        if len(start) < _READ or error.start < len(start) - 4:
            return False
    return not any(byte < 32 and byte not in b"\t\n\r\f\x1b" for byte in start)


def _text(text: str) -> tuple[str, str]:
    opening = text.lstrip()[:400].lower()
    if opening.startswith("version https://git-lfs"):
        return "a Git LFS pointer, not the file itself", "Fetch the file: `git lfs pull`."
    if opening.startswith(("<!doctype html", "<html")):
        return "a web page (HTML)", "The download may have returned an error page; download the file again."
    if "<graphml" in opening:
        return "a GraphML file", _NETWORKX.format(call="networkx.read_graphml({path})")
    if "<gexf" in opening:
        return "a GEXF file", _NETWORKX.format(call="networkx.read_gexf({path})")
    if opening.startswith("<"):
        return "an XML file", _IN_PYTHON
    if opening.startswith("%%matrixmarket"):
        return "a Matrix Market file", "`dgl_rbm.from_scipy(scipy.io.mmread({path}), features, labels, ...)` reads it."
    if opening.startswith("*vertices"):
        return "a Pajek file", _NETWORKX.format(call="networkx.read_pajek({path})")
    if re.match(r"(creator\b.*\n\s*)?(version\b.*\n\s*)?graph\s*\[", opening):
        return "a GML file", _NETWORKX.format(call="networkx.read_gml({path})")
    if re.match(r"(strict\s+)?(di)?graph\b[^\n\[]*\{", opening):
        return "a Graphviz (DOT) file", _NETWORKX.format(call="networkx.nx_pydot.read_dot({path})")
    if opening.startswith(("{", "[")):
        if '"nodes"' in text and ('"links"' in text or '"edges"' in text):
            call = "networkx.node_link_graph(json.load(open({path})))"
            return "a JSON file of nodes and links", _NETWORKX.format(call=call)
        return "a JSON file", _IN_PYTHON
    return _lines(text)


def _lines(text: str) -> tuple[str, str]:
    lines = [line for line in text.splitlines()[:_MOST_LINES] if line.strip() and line[:1] not in "#%"]
    # The last line may be cut off.
    lines = lines[:-1] if len(lines) == _MOST_LINES else lines
    for separator, name in ((",", "CSV"), ("\t", "TSV"), (";", "CSV with semicolons"), ("|", "CSV with bars")):
        columns = {len(cells) for cells in csv.reader(lines, delimiter=separator)}
        if len(columns) == 1 and columns.pop() > 1:
            option = "" if separator == "," else f", separator={separator!r}"
            return (
                f"a table ({name})",
                "A graph needs a table of edges and one of nodes: "
                f"`dgl_rbm.from_csv(edges, nodes, label=..., features=...{option})`, or a folder with both and a "
                "meta.yaml.",
            )
    if lines and all(re.fullmatch(r"-?\d+([ \t]+-?[\d.eE+]+)+\s*", line) for line in lines):
        return (
            "a list of edges",
            "Features and labels are needed too: "
            "`dgl_rbm.from_arrays(numpy.loadtxt({path}, dtype=int)[:, :2], features, labels, split='20/30')`.",
        )
    if any(re.match(r"(dataset|student|teacher|encoder|methods|base):", line) for line in lines):
        return "a configuration", "Pass a configuration with `--config {shell}`, and a graph with `--dataset`."
    return "a text file", _IN_PYTHON


def _folder(path: Path) -> tuple[str, str]:
    try:
        names = sorted(entry.name for entry in path.iterdir())
    except OSError as error:
        return f"unreadable ({error.strerror})", "Check its permissions."
    for what, hint in _of_names(path, names):
        return what, hint
    if not names:
        return "an empty folder", "Give the path of a graph."
    shown = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
    return f"a folder of {shown}", "Give the path of a graph."


def _of_names(path: Path, names: list[str]) -> Iterator[tuple[str, str]]:
    """Yield what a folder of these entries may be, the most specific first."""
    if any(name in names for name in _RUN_FILES) or ("config.yaml" in names and "checkpoints" in names):
        yield (
            "the folder of a run",
            "A run is trained on a dataset: give its path with --dataset. `dgl-rbm evaluate {shell}` and "
            "`dgl-rbm predict {shell} ROWS` use the run.",
        )
    if any(re.fullmatch(r"ind\..+\.(x|allx|graph)", name) for name in names):
        yield (
            "a folder of Planetoid files",
            "Name the dataset (cora, citeseer or pubmed) and set DGL_RBM_DATA to the folder that contains this one.",
        )
    if any((path / name / "RELEASE_v1.txt").is_file() for name in ["", *names]) or {"mapping", "split"} <= set(names):
        yield "a folder of the Open Graph Benchmark", "Name the dataset, such as ogbn-arxiv, and set its option `root`."
    if "processed" in names and any((path / "processed").glob("*.pt")):
        yield (
            "a folder of a PyG dataset",
            "Load it with PyG and pass its graph: `dgl_rbm.from_pyg(dataset[0], ...)`.",
        )
    tables = [name for name in names if name.endswith((".csv", ".tsv", ".parquet", ".csv.gz"))]
    if tables:
        yield (
            f"a folder of the tables {', '.join(tables[:4])}",
            "`dgl_rbm.from_csv(edges, nodes, label=..., features=...)` reads two tables; "
            "https://docs.dgl.ai/guide/data-loadcsv.html describes folders with a meta.yaml.",
        )
    graphs = [name for name in names if name.endswith((".bin", ".dgl", ".npz"))]
    if graphs:
        yield (
            f"a folder of the graphs {', '.join(graphs[:4])}",
            f"Give the path of one of its files: --dataset {shlex.quote(str(path / graphs[0]))}.",
        )

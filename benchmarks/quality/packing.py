"""Parquet files that are committed: small, and there whole or not at all."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq


def write(file: Path, columns: Mapping[str, Any], meta: Mapping[bytes, bytes]) -> None:
    """Write columns and what stands beside them, in place of what the file held before."""
    file.parent.mkdir(parents=True, exist_ok=True)
    draft = file.with_suffix(".part")
    table = pa.table(dict(columns)).replace_schema_metadata(dict(meta))
    pq.write_table(table, draft, compression="zstd", compression_level=19)
    draft.replace(file)

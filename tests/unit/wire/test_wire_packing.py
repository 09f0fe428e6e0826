import gzip
import zlib
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.wire.packing import PIECE, Unpackable, Unpacker
from tests.support.wire_chunks import cut, places


def bare(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(data) + packer.flush()


PACKED: dict[str, Callable[[bytes], bytes]] = {"gzip": gzip.compress, "x-gzip": gzip.compress, "deflate": zlib.compress}


def unpacked(encoding: str, chunks: list[bytes]) -> tuple[bytes, bool]:
    unpacker, out = Unpacker(encoding), b""
    for chunk in chunks:
        unpacker.feed(chunk)
        while piece := unpacker.take():
            assert len(piece) <= PIECE
            out += piece
    return out, unpacker.complete


@given(st.binary(max_size=2000), places, st.sampled_from(sorted(PACKED)))
def test_what_was_packed_comes_out_however_it_is_cut(data: bytes, at: list[int], encoding: str) -> None:
    assert unpacked(encoding, cut(PACKED[encoding](data), at)) == (data, True)


@given(st.binary(max_size=2000), places)
def test_deflate_without_its_frame_is_understood_too(data: bytes, at: list[int]) -> None:
    assert unpacked("deflate", cut(bare(data), at)) == (data, True)


@given(st.lists(st.binary(max_size=50), min_size=1, max_size=4), places)
def test_gzip_may_have_several_members(datas: list[bytes], at: list[int]) -> None:
    assert unpacked("gzip", cut(b"".join(map(gzip.compress, datas)), at)) == (b"".join(datas), True)


@pytest.mark.parametrize("size", [PIECE - 1, PIECE, PIECE + 1, 20 * PIECE])
def test_a_bomb_comes_out_in_pieces(size: int) -> None:
    out, complete = unpacked("gzip", [gzip.compress(b"\0" * size)])
    assert (len(out), complete) == (size, True)


def test_what_breaks_off_is_not_complete() -> None:
    assert not unpacked("gzip", [gzip.compress(b"hello")[:-4]])[1]


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_what_is_not_packed_is_refused(encoding: str) -> None:
    with pytest.raises(Unpackable):
        unpacked(encoding, [b"plain text, honestly"])


def test_an_encoding_that_was_not_offered_is_refused() -> None:
    with pytest.raises(Unpackable, match="br"):
        Unpacker("br")

"""1 of 5.  The tables: what AES looks up, computed from the arithmetic that defines it.

AES computes with bytes as if they were polynomials: bit i is the coefficient of x^i, and each
coefficient is 0 or 1.  To add two bytes is to XOR them.  To multiply them is to multiply the
polynomials and keep the remainder after division by x^8 + x^4 + x^3 + x + 1.  With these two
rules the 256 bytes are a field, GF(2^8): every byte but 0 has an inverse.

All tables follow from that.  Two numbers below are given and not derived: the polynomial, and
the constant of the S-box.  The table names are those of the classic table AES (QEMU's aes.c).

Knows no key and no data.  Follows FIPS-197 (2001), sections 4 and 5.
"""

from __future__ import annotations

POLYNOMIAL = 0x11B  # x^8 + x^4 + x^3 + x + 1, section 4.2
AFFINE_CONSTANT = 0x63  # section 5.1.1


def gf_multiply(a: int, b: int) -> int:
    """The product of two bytes in GF(2^8), as on paper: shift, add where ``b`` has a bit, reduce.

    >>> hex(gf_multiply(0x57, 0x83))  # the example of section 4.2
    '0xc1'
    """
    product = 0
    while b:
        if b & 1:
            product ^= a
        a <<= 1  # times x
        if a & 0x100:
            a ^= POLYNOMIAL
        b >>= 1
    return product


def word(b0: int, b1: int, b2: int, b3: int) -> int:
    """Four bytes as one 32-bit word, ``b0`` on top.  One column of the AES state is such a word."""
    return b0 << 24 | b1 << 16 | b2 << 8 | b3


def rotate_right(column: int, bits: int) -> int:
    """A 32-bit word turned ``bits`` to the right; what falls out enters on the left."""
    return (column >> bits | column << 32 - bits) & 0xFFFFFFFF


def _affine(byte: int) -> int:
    """The second half of the S-box: mix the bits of a byte, then add the constant."""
    mixed = byte
    for turn in (1, 2, 3, 4):
        mixed ^= (byte << turn | byte >> 8 - turn) & 0xFF
    return mixed ^ AFFINE_CONSTANT


def _make_sbox() -> tuple[int, ...]:
    """Every byte through "take the inverse in the field (0 stays 0), then the affine map".

    Inverses without a search: 3 is a generator, its powers 3^0 to 3^254 run through all bytes
    but 0, and 3^255 is 1 again.  So the inverse of 3^i is 3^(255 - i).
    """
    powers = [1]
    while len(powers) < 255:
        powers.append(gf_multiply(powers[-1], 3))
    box = [_affine(0)] * 256
    for i, byte in enumerate(powers):
        box[byte] = _affine(powers[(255 - i) % 255])
    return tuple(box)


sbox = _make_sbox()  # SubBytes, figure 7: sbox[0x53] is 0xed
isbox = tuple(sbox.index(byte) for byte in range(256))  # InvSubBytes, figure 14

# The T-tables hold SubBytes and MixColumns of one byte together: MixColumns multiplies a column
# by a matrix, and Te0[x] is what a byte x in the top row adds to the product.  A byte in the next
# row meets the next column of the matrix, which is the same four numbers turned by one place.
Te0 = tuple(word(gf_multiply(s, 2), s, s, gf_multiply(s, 3)) for s in sbox)
Te1, Te2, Te3 = (tuple(rotate_right(c, bits) for c in Te0) for bits in (8, 16, 24))
Te4 = tuple(word(s, s, s, s) for s in sbox)  # SubBytes alone, in whichever byte is needed

# The same for the way back: InvSubBytes, then the inverse matrix.
Td0 = tuple(
    word(gf_multiply(s, 14), gf_multiply(s, 9), gf_multiply(s, 13), gf_multiply(s, 11))
    for s in isbox
)
Td1, Td2, Td3 = (tuple(rotate_right(c, bits) for c in Td0) for bits in (8, 16, 24))
Td4 = tuple(word(s, s, s, s) for s in isbox)


def _make_rcon() -> tuple[int, ...]:
    """The round constants of the key expansion: powers of x, each in the top byte of a word."""
    power, constants = 1, []
    for _ in range(10):
        constants.append(word(power, 0, 0, 0))
        power = gf_multiply(power, 2)
    return tuple(constants)


rcon = _make_rcon()  # the last two are 0x1b and 0x36: there x^8 and x^9 were reduced


def imc(column: int) -> int:
    """InvMixColumns of one column.

    The Td tables begin with the inverse S-box, so each byte goes through the S-box first:
    the two cancel and the matrix alone remains.

    >>> hex(imc(0xBD6E7C3D))  # appendix C.1, equivalent inverse cipher, is_row to im_col
    '0x4773b91f'
    """
    return (
        Td0[sbox[column >> 24]]
        ^ Td1[sbox[column >> 16 & 0xFF]]
        ^ Td2[sbox[column >> 8 & 0xFF]]
        ^ Td3[sbox[column & 0xFF]]
    )

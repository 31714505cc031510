#!/usr/bin/env python3
"""The order of an epoch, implemented again: prints the values that test_epoch_order.cpp expects.

Philox4x32-10 (Salmon et al., SC 2011) and bounded numbers by multiplication (Lemire, TOMACS 2019).
"""

MASK = 0xFFFFFFFF
SHUFFLE_STREAM = 0x10000000


def philox(counter, key):
    c, k = list(counter), list(key)
    for _ in range(10):
        a, b = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [(b >> 32) ^ c[1] ^ k[0], b & MASK, (a >> 32) ^ c[3] ^ k[1], a & MASK]
        k = [(k[0] + 0x9E3779B9) & MASK, (k[1] + 0xBB67AE85) & MASK]
    return c


def below(bound, index, seed, epoch):
    key = (seed & MASK, (seed >> 32) ^ SHUFFLE_STREAM)
    block = 0
    while True:
        for word in philox((index, block, epoch & MASK, epoch >> 32), key):
            if (word * bound & MASK) >= (1 << 32) % bound:
                return word * bound >> 32
        block += 1


def epoch_order(count, seed, epoch):
    order = list(range(count))
    for i in range(count - 1, 0, -1):
        j = below(i + 1, i, seed, epoch)
        order[i], order[j] = order[j], order[i]
    return order


if __name__ == "__main__":
    # Known answers of the authors' Random123 distribution.
    assert philox((0, 0, 0, 0), (0, 0)) == [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]
    assert philox((MASK,) * 4, (MASK,) * 2) == [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]
    print(epoch_order(10, 42, 3))
    print(epoch_order(12, 0x123456789ABCDEF0, 5_000_000_000))

/* AES as FIPS-197 tells it, byte by byte, with a table for the S-box: slow, and it leaks.
 *
 * The tests use it twice: as a second opinion that shares nothing with csrc, and as the leak that
 * the test of constant time must find. */
#ifndef QC_PLAIN_AES_H
#define QC_PLAIN_AES_H

#include <stddef.h>
#include <stdint.h>

/* Round keys in order of use; gives the number of rounds. */
int plain_expand(uint8_t keys[15][16], const uint8_t *key, size_t length);
void plain_encrypt(uint8_t block[16], uint8_t keys[15][16], int rounds);
void plain_decrypt(uint8_t block[16], uint8_t keys[15][16], int rounds);

#endif

/* What the test programs share: AES of single blocks by instructions, by a table, by neither. */
#ifndef WORK_H
#define WORK_H

void by_instructions(long blocks);
void by_table(long blocks);
void by_neither(long blocks);

#endif

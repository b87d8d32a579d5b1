/* Prelude of every unit test: cmocka and what it wants included before it. */
#ifndef MR_TESTS_SUPPORT_TEST_H
#define MR_TESTS_SUPPORT_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#endif

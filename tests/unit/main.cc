// SPDX-License-Identifier: MIT
// The one translation unit that holds doctest's runner; every unit-test program links it.
#define DOCTEST_CONFIG_IMPLEMENT_WITH_MAIN
#include <doctest/doctest.h>

// SPDX-License-Identifier: MIT
// As much of Samba's header of this name as use.c of the module needs, for a test of it without smbd. C.
#pragma once

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

#define MAX(a, b) ((a) > (b) ? (a) : (b))
#define MIN(a, b) ((a) < (b) ? (a) : (b))
#define IVAL(bytes, at) (*(const uint32_t*)((bytes) + (at)))
#define SIVAL(bytes, at, value) (*(uint32_t*)((bytes) + (at)) = (value))
#define SBVAL(bytes, at, value) (*(uint64_t*)((bytes) + (at)) = (value))

void use_test_warned(const char* format, ...);
#define DBG_WARNING(...) use_test_warned(__VA_ARGS__)

struct tevent_context;

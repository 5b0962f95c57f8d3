/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * config_fuzz.c - the readers under libFuzzer, for longer hunts than the unit tests' mutations:
 *
 *   cp -r tests/golden build/corpus
 *   clang -g -O1 -fsanitize=fuzzer,address,undefined -D_GNU_SOURCE -Iinclude -Iuser tests/fuzz/config_fuzz.c \
 *         user/core/{address,agent_config,config,document,duration,reader,writer}.c -lyaml -o build/config_fuzz
 *   build/config_fuzz -max_total_time=60 build/corpus
 */
#include "config_property.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	property_config((const char *)data, size);
	property_agent_config((const char *)data, size);
	return 0;
}

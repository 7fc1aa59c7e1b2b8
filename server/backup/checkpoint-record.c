/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/backup/checkpoint-record.h"

/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef BACKUP_CHECKPOINT_RECORD_H
#define BACKUP_CHECKPOINT_RECORD_H
#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a device is: one const class (name, fields, life) in one file under
 * devices/, and the table of the classes that this binary was built with
 * (generated from the Makefile's DEVICES). One name serves file, Makefile word,
 * snapshot section, log prefix and test. Which of them a machine has, and how many of each, is the
 * machine's: a list, in the order in which they take virtio slots and with them addresses and pins.
 */
#ifndef VIRGA_DEVICES_DEVICE_H
#define VIRGA_DEVICES_DEVICE_H

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>

#include "arch/base/aml.h"
#include "arch/base/blob.h"
#include "arch/base/field.h"
#include "arch/base/keys.h"
#include "arch/vm.h"

/* What a device can ask its supervisor for. */
enum device_question {
	DEVICE_NOTHING,
	DEVICE_CONNECT, /* value: a port; the answer is a socket, connected to PATH_PORT */
	DEVICE_QUESTIONS,
};

/* What all devices of a machine are given of the host; never saved. */
struct device_host {
	bool stdio; /* the machine's serial port has standard input and output, unless it is told */
	/*
	 * Asks the supervisor; the answer is devices_answered() with the same id. 0 or -errno. NULL:
	 * nobody to ask.
	 */
	int (*ask)(void *opaque, uint64_t id, enum device_question kind, uint32_t value);
	void *ask_opaque;
	struct channel *channel; /* the host end of the function channel; never NULL */
};

#define DEVICE_NAME_MAX 24 /* bytes with the final NUL */
#define DEVICE_ASK_BITS 48 /* of a question's id that are the device's; above them is its number */

struct device {
	const struct device_class *class;
	struct vm *vm;
	void *state; /* class->size bytes, zero before create but for its options; saved struct at 0 */
	char name[DEVICE_NAME_MAX]; /* of its own in the machine */
	uint32_t instance;          /* of its class, from 0 in the order of the machine's list */
	uint32_t number;            /* in the machine, from 0 */
	char *settings; /* owned: JSON of the options that a snapshot holds; NULL: it has none such */
	int (*ask)(void *opaque, uint64_t id, enum device_question kind, uint32_t value);
	void *ask_opaque; /* both the host's */
};

/* When a machine that is booted has a device that nobody named. */
enum device_habit {
	DEVICE_ON_DEMAND, /* never */
	DEVICE_USUAL,
	DEVICE_FOR_LINUX, /* when its kernel is a Linux */
};

/* One KEY=VALUE of --device, and of a device in JSON. */
struct device_option {
	struct key key;    /* of the device's state, where create() finds it; no name: the end */
	const char *value; /* what stands for the value in a usage line */
	const char *help;
	const char *initial; /* when it is not said, as it would be typed; NULL: 0 or not given */
	bool required;       /* there is no such device without it */
	enum device_question answers; /* that of its device, by a supervisor that knows the value */
	bool anew; /* of the host: a snapshot does not hold it, each start says it anew */
};

/* Ports of a device by which a guest powers off and resets (ACPI 6.4, 4.8.3.6 and 4.8.3.7). */
struct device_power {
	uint16_t sleep_control, sleep_status, reset;
	uint8_t reset_value;
};

struct device_class {
	const char *name;
	const char *description;             /* one line for `virga devices` */
	const struct device_option *options; /* of its state; NULL: none */
	enum device_habit habit;
	bool single;      /* a machine has one at most */
	uint32_t version; /* of the saved fields and of what save() appends */
	uint32_t oldest;  /* version that is read, by the fields' defaults */
	uint32_t size;    /* bytes of the instance, whose first member is the saved struct */
	const struct field *fields; /* of the saved struct; NULL when nothing is saved */

	/* Opens host things and claims ranges; touches no guest state. 0 or -errno, sentence. */
	int (*create)(struct device *dev, const struct device_host *host);
	void (*destroy)(struct device *dev);

	/* The machine is about to run (first time, or after a pause) / has been paused. Optional. */
	int (*start)(struct device *dev);
	void (*stop)(struct device *dev);

	/* Drops what it has done since create(), so that a state can be loaded over it. Optional. */
	void (*clear)(struct device *dev);

	/* Says to the guest's ACPI where the device is. Optional. */
	void (*describe)(const struct device *dev, struct aml *a);
	const struct device_power *power; /* what the FADT says of it; NULL: nothing */

	/* The answer to device_ask(): an errno or 0; fd, owned from here on, or -1. Optional. */
	void (*answered)(struct device *dev, uint64_t id, int error, int fd);

	/* The machine's power button is pressed. 0 or -errno with a sentence. VM lock held. Optional. */
	int (*press)(struct device *dev);

	/* State beyond the fields, appended after them. Optional. Machine paused, VM lock held. */
	int (*save)(struct device *dev, struct blob *out);
	/* The fields are loaded; range-checks them, reads what save() appended. 0 or -errno. */
	int (*restore)(struct device *dev, struct blob *in);
};

/* NULL-terminated; build/devices_table.c: the classes of this build, and every word there is. */
extern const struct device_class *const device_classes[];
extern const char *const device_words[];

/* The class of a word of DEVICES, or NULL with a sentence: no such device, or not built in. */
const struct device_class *device_class_find(const char *word);

/* Whether it is a word of DEVICES, built in or not. */
bool device_class_known(const char *word);

/* Its option of that name, or NULL. */
const struct device_option *device_option_find(const struct device_class *class, const char *key);

/* --- Which devices a machine has --- */

struct device_spec {
	const struct device_class *class;
	char name[DEVICE_NAME_MAX];
	uint32_t instance;
	struct json_t
		*settings; /* owned: an object of what was said of its options; NULL: nothing */
};

struct device_list {
	unsigned count;
	struct device_spec *list; /* owned */
};

/*
 * Appends a device; name NULL: the class's, from the second on with its number. -EINVAL with a
 * sentence when the name is not one, or taken, or there can be no second one; -ENOMEM.
 */
int device_list_add(struct device_list *list, const struct device_class *class, const char *name);
void device_list_fini(struct device_list *list);

/*
 * Sets one of its options, from a value of its type or the text that it would be typed as. -EINVAL with a sentence: it has no such key, or the
 * value is not allowed; -ENOMEM.
 */
int device_spec_set(struct device_spec *spec, const char *key, const struct json_t *value);

/* The text that was said of one of its options, until that is set again; NULL: none. */
const char *device_spec_text(const struct device_spec *spec, const char *key);

/* The text by which that question of the device is answered, and its option's key; NULL: none. */
const char *device_spec_answer(const struct device_spec *spec, enum device_question question,
			       const char **key);

/* Says of a device what was said of another of its class. 0 or -ENOMEM with a sentence. */
int device_spec_merge(struct device_spec *spec, const struct device_spec *from);

/*
 * Appends what from has; of a device that the list has already only the settings are taken over.
 * -EINVAL with a sentence when a name is taken by one of another class; -ENOMEM.
 */
int device_list_merge(struct device_list *list, const struct device_list *from);

/* Appends the classes with that habit of which there is none yet, in table order. */
int device_list_add_all(struct device_list *list, enum device_habit habit);

/* The first of that class's word, or NULL. */
struct device_spec *device_list_find(const struct device_list *list, const char *word);

/* The one of that name, or of a class of which there can be one only; NULL: a name not given. */
struct device_spec *device_list_same(const struct device_list *list,
				     const struct device_class *class, const char *name);

/* --- Those that it has --- */

struct devices {
	unsigned count;
	struct device *list; /* owned */
};

/*
 * Makes what the list says, in its order, each with its options in its state. On failure, which may
 * be a required option that was not said, what was made is destroyed.
 */
int devices_create(struct devices *devices, struct vm *vm, const struct device_list *list,
		   const struct device_host *host);
void devices_destroy(struct devices *devices);

/* Calls start (stop) of each; start undoes itself on failure. VM lock held. */
int devices_start(struct devices *devices);
void devices_stop(struct devices *devices);

/* Calls clear of each. The devices are stopped; VM lock held. */
void devices_clear(struct devices *devices);

/* Calls describe of each. */
void devices_describe(const struct devices *devices, struct aml *a);

/* Those of the device that has such ports, or NULL; devices may be NULL, too. */
const struct device_power *devices_power(const struct devices *devices);

/*
 * Asks the supervisor; id, the question's number, is below 2^48 and comes back in class->answered.
 * Does not wait. 0 or -errno; -ENOTCONN: nobody to ask. VM lock held. Inline: device.c knows every
 * class by the table, so no class may need it.
 */
static inline int device_ask(const struct device *dev, uint64_t id, enum device_question kind,
			     uint32_t value)
{
	id |= (uint64_t)dev->number << DEVICE_ASK_BITS;
	return dev->ask ? dev->ask(dev->ask_opaque, id, kind, value) : -ENOTCONN;
}

/* Passes an answer to the device that has asked. fd is owned from here on. VM lock held. */
void devices_answered(struct devices *devices, uint64_t id, int error, int fd);

/* Presses the power button of the device that has one. 0 or -errno with a sentence. VM lock held. */
int devices_press(struct devices *devices);

/*
 * Appends fields and extra state of one device / loads one saved in a version that its class reads;
 * a sentence names the device.
 */
int device_save(struct device *dev, struct blob *out);
int device_load(struct device *dev, uint32_t version, const void *data, size_t len);

/* The device of that class's word, instance from 0, or NULL. */
struct device *devices_find(struct devices *devices, const char *word, uint32_t instance);

#endif
